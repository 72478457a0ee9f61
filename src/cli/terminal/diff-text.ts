import { changeOf, type DiffGroup, type DiffSummary } from '../../diff/diff-summary.ts'
import type { Difference } from '../../diff/difference.ts'
import {
  changesOf,
  countCells,
  countHeads,
  countsText,
  hiddenOf,
  numeral,
  sectionsOf,
  subjectOf,
} from './diff-sample.ts'
import { paint } from './output.ts'
import { cut, cutToDifference, plain, widthOf } from './plain-text.ts'

const columns = 80
const countColumns = 11
const nameColumns = columns - countColumns * countHeads.length
/** Of each part so many groups are shown, and of each sample so many fields. */
const groupsMax = 50
const fieldsMax = 4
/** Stands for a field that is not there; no JSON looks so. */
const nothing = '(none)'

/** A diff for a terminal, in lines of 80 columns at most: the counts, then samples of each group, cut where they are longer. */
export function diffText(summary: DiffSummary): string[] {
  if (summary.differences === 0) return ['Nothing differs.']
  const sections = sectionsOf(summary)
  const { differences, sha256 } = summary
  return [
    `${numeral(differences)} ${differences === 1 ? 'difference' : 'differences'}`,
    paint.faint(`sha256 ${sha256}`),
    '',
    paint.faint(' '.repeat(nameColumns) + aligned(countHeads)),
    ...sections.flatMap(({ title, groups }) => [
      paint.strong(title),
      ...groups.slice(0, groupsMax).map((group) => {
        const name = cut(plain(group.name), nameColumns - 2)
        return `  ${name}${' '.repeat(nameColumns - 2 - widthOf(name))}${aligned(countCells(group))}`
      }),
      ...more(groups.length - groupsMax, '  '),
    ]),
    ...sections.flatMap(({ title, groups }) =>
      groups.slice(0, groupsMax).flatMap((group) => samplesOf(title, group)),
    ),
  ]
}

function aligned(cells: readonly string[]): string {
  return cells.map((cell) => cell.padStart(countColumns)).join('')
}

function more(count: number, indent: string): string[] {
  return count > 0 ? [paint.faint(`${indent}… and ${numeral(count)} more`)] : []
}

function samplesOf(title: string, group: DiffGroup): string[] {
  if (group.samples.length === 0) return []
  const counts = countsText(group)
  const name = cut(plain(group.name), columns - widthOf(`${title}, : ${counts}`))
  return [
    '',
    `${title}, ${paint.strong(name)}: ${counts}`,
    ...group.samples.flatMap(sampleOf),
    ...more(hiddenOf(group), '  '),
  ]
}

function sampleOf(difference: Difference): string[] {
  const subject = subjectOf(difference)
  const changes = changesOf(difference)
  const room = columns - 4
  switch (changeOf(difference)) {
    case 'added':
      return [`  ${paint.good('+')} ${cut(`${subject} ${changes[0]!.after}`, room)}`]
    case 'removed':
      return [`  ${paint.bad('-')} ${cut(`${subject} ${changes[0]!.before}`, room)}`]
    case 'changed':
      return [
        `  ${paint.warn('~')} ${cut(subject, room)}`,
        ...changes.slice(0, fieldsMax).map(({ field, before, after }) => {
          const name = field === undefined ? '' : `${cut(field, 20)}: `
          const each = Math.floor((columns - 6 - widthOf(name) - 3) / 2)
          return `      ${name}${cutToDifference(before ?? nothing, after ?? nothing, each).join(' → ')}`
        }),
        ...more(changes.length - fieldsMax, '      '),
      ]
  }
}

/** How people and programs are shown the summary of a diff: as text, as Markdown, as JSON. */
import type { Outcome } from '../../app/index.ts'
import { changeOf, type DiffGroup, type DiffPart, type DiffSummary } from '../../diff/diff-summary.ts'
import type { BeforeAfter, ComparedEffect, Difference, EffectDifference } from '../../diff/difference.ts'
import { plain } from '../../plain-text.ts'
import { canonicalJson } from '../../state/digest.ts'
import { cut, cutToDifference, widthOf } from './columns.ts'
import { paint } from './output.ts'

export const summaryFormats = ['text', 'markdown', 'json'] as const
export type SummaryFormat = (typeof summaryFormats)[number]

/** The two versions of the code that are compared, by any name that the reader knows: a hash or a tag. */
interface Versions {
  readonly before: string
  readonly after: string
}

/** Formats a summary, without a line break at the end. */
export function formatSummary(format: SummaryFormat, summary: DiffSummary, versions: Versions): string {
  switch (format) {
    case 'text':
      return textLines(summary).join('\n')
    case 'markdown':
      return markdownPage(summary, versions).trimEnd()
    case 'json':
      return JSON.stringify(summary)
  }
}

const titles: readonly (readonly [part: DiffPart, title: string])[] = [
  ['tables', 'Rows'],
  ['outcomes', 'Outcomes'],
  ['effects', 'Effects'],
  ['claims', 'Claims'],
  ['usage', 'Limits and use'],
  ['violations', 'Violations'],
  ['timers', 'Timers'],
]

interface Section {
  readonly title: string
  readonly groups: readonly DiffGroup[]
}

/** The parts of a summary that hold a difference. */
function sectionsOf(summary: DiffSummary): Section[] {
  return titles
    .map(([part, title]) => ({ title, groups: summary[part] }))
    .filter(({ groups }) => groups.length > 0)
}

const countHeads = ['added', 'removed', 'changed'] as const
const countCells = (group: DiffGroup) => countHeads.map((head) => numeral(group[head]))
const numeral = (count: number) => count.toLocaleString('en-US')
const differencesText = (count: number) => `${numeral(count)} ${count === 1 ? 'difference' : 'differences'}`

/** `12 added, 3 removed`; for effects also how many had been delivered. */
function countsText(group: DiffGroup & { readonly delivered?: number }): string {
  const counts = countHeads.flatMap((head) => (group[head] === 0 ? [] : [`${numeral(group[head])} ${head}`]))
  if (group.delivered) counts.push(`${numeral(group.delivered)} already delivered`)
  return counts.join(', ')
}

/** How many differences of a group are not among its samples. */
function hiddenOf({ added, removed, changed, samples }: DiffGroup): number {
  return added + removed + changed - samples.length
}

// Text.

const columns = 80
const countColumns = 11
const nameColumns = columns - countColumns * countHeads.length
/** The largest number of groups of each part that a table of counts lists. */
const groupsMax = 50
const fieldsMax = 4
/** Stands for a missing field; it is not valid JSON, so no value looks like it. */
const missing = '(none)'

/** Lines of at most 80 columns: the counts, then samples of each group, cut where they are longer. */
function textLines(summary: DiffSummary): string[] {
  const { differences, sha256 } = summary
  if (differences === 0) return ['Nothing differs.']
  const sections = sectionsOf(summary)
  const aligned = (cells: readonly string[]) => cells.map((cell) => cell.padStart(countColumns)).join('')
  return [
    differencesText(differences),
    paint.faint(`sha256 ${sha256}`),
    '',
    paint.faint(' '.repeat(nameColumns) + aligned(countHeads)),
    ...sections.flatMap(({ title, groups }) => [
      paint.strong(title),
      ...groups.slice(0, groupsMax).map((group) => {
        const name = cut(plain(group.name), nameColumns - 2)
        return `  ${name}${' '.repeat(nameColumns - 2 - widthOf(name))}${aligned(countCells(group))}`
      }),
      ...moreText(groups.length - groupsMax, '  '),
    ]),
    ...sections.flatMap(({ title, groups }) =>
      groups.slice(0, groupsMax).flatMap((group) => groupText(title, group)),
    ),
  ]
}

function moreText(count: number, indent: string): string[] {
  return count > 0 ? [paint.faint(`${indent}… and ${numeral(count)} more`)] : []
}

function groupText(title: string, group: DiffGroup): string[] {
  if (group.samples.length === 0) return []
  const counts = countsText(group)
  const name = cut(plain(group.name), columns - widthOf(`${title}, : ${counts}`))
  return [
    '',
    `${title}, ${paint.strong(name)}: ${counts}`,
    ...group.samples.flatMap(sampleText),
    ...moreText(hiddenOf(group), '  '),
  ]
}

function sampleText(difference: Difference): string[] {
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
          return `      ${name}${cutToDifference(before ?? missing, after ?? missing, each).join(' → ')}`
        }),
        ...moreText(changes.length - fieldsMax, '      '),
      ]
  }
}

// Markdown.

/** GitHub accepts 65,536 characters in a description or a comment. */
const pageCharactersMax = 60_000
const linesMax = 12
const valueColumnsMax = 200
const codeColumnsMax = 80

/**
 * A page for the description of a pull request, in GitHub's Markdown and at most 60,000 characters long.
 * Values are cut to 200 columns. The page counts everything that it leaves out.
 */
function markdownPage(summary: DiffSummary, { before, after }: Versions): string {
  const { differences, sha256 } = summary
  const heading = `# What differs: ${code(before)} → ${code(after)}\n`
  if (differences === 0) return `${heading}\nNothing differs.\n`
  const sections = sectionsOf(summary)
  const page = [
    heading,
    `${differencesText(differences)}. SHA-256 of the full output: \`${sha256}\`\n`,
    `${countsTable(sections).join('\n')}\n`,
  ]
  let length = page.join('\n').length
  let leftOut = 0
  for (const { title, groups } of sections) {
    let titled = false
    for (const group of groups) {
      if (group.samples.length === 0) continue
      const text = `${titled ? '' : `## ${title}\n\n`}${groupMarkdown(group)}`
      // After the first group that does not fit, no group is shown: the page is the beginning of the diff,
      // without gaps.
      if (leftOut > 0 || length + text.length > pageCharactersMax) {
        leftOut++
        continue
      }
      titled = true
      length += text.length + 1
      page.push(text)
    }
  }
  if (leftOut > 0) {
    const groups = leftOut === 1 ? 'group is' : 'groups are'
    page.push(`The page ends here: ${numeral(leftOut)} more ${groups} left out.\n`)
  }
  return page.join('\n')
}

function countsTable(sections: readonly Section[]): string[] {
  // A pipe ends a cell, even inside code.
  const cell = (name: string) => code(name).replaceAll('|', '\\|')
  return [
    `| | | ${countHeads.join(' | ')} |`,
    `| --- | --- | ${countHeads.map(() => '---:').join(' | ')} |`,
    ...sections.flatMap(({ title, groups }) => {
      const hidden = groups.length - groupsMax
      const rows = groups
        .slice(0, groupsMax)
        .map((group) => `| ${title} | ${cell(group.name)} | ${countCells(group).join(' | ')} |`)
      if (hidden > 0)
        rows.push(`| ${title} | … and ${numeral(hidden)} more |${' |'.repeat(countHeads.length)}`)
      return rows
    }),
  ]
}

function groupMarkdown(group: DiffGroup): string {
  const hidden = hiddenOf(group)
  return [
    `### ${code(group.name)}`,
    '',
    countsText(group),
    '',
    // Every line in the block begins with a character of ours, so no value can end the block.
    '```diff',
    ...group.samples.flatMap(sampleMarkdown),
    '```',
    '',
    ...(hidden > 0 ? [`… and ${numeral(hidden)} more.`, ''] : []),
  ].join('\n')
}

function sampleMarkdown(difference: Difference): string[] {
  const lines = changesOf(difference).flatMap(({ field, before, after }) => {
    const name = field === undefined ? '' : `${cut(field, codeColumnsMax)}: `
    if (before === undefined) return [`+ ${name}${cut(after!, valueColumnsMax)}`]
    if (after === undefined) return [`- ${name}${cut(before, valueColumnsMax)}`]
    const [was, is] = cutToDifference(before, after, valueColumnsMax)
    return [`- ${name}${was}`, `+ ${name}${is}`]
  })
  const hidden = lines.length - linesMax
  if (hidden > 0) lines.splice(linesMax, hidden, `  … and ${numeral(hidden)} more lines`)
  return [`@@ ${cut(subjectOf(difference), valueColumnsMax)} @@`, ...lines]
}

/** Inline code, between more backticks than the text has in a row (CommonMark 6.1). */
function code(text: string): string {
  const shown = cut(plain(text), codeColumnsMax)
  const longest = Math.max(0, ...(shown.match(/`+/g) ?? []).map(({ length }) => length))
  const fence = '`'.repeat(longest + 1)
  const pad = /^[` ]|[` ]$/.test(shown) || shown === '' ? ' ' : ''
  return `${fence}${pad}${shown}${pad}${fence}`
}

// One difference, for both.

/** Names a difference within its group. */
function subjectOf(difference: Difference): string {
  return plain(nameOf(difference))
}

function nameOf(d: Difference): string {
  const by = (requestId: string, principal: string) =>
    principal === '' ? requestId : `${requestId} by ${principal}`
  switch (d.kind) {
    case 'row':
    case 'usage':
      return JSON.stringify(d.key)
    case 'outcome':
      return `${by(d.requestId, d.principal)} at ${d.partition}:${d.offset}`
    case 'effect': {
      const { requestId, principal } = (d.before ?? d.after)!
      return `${d.id} of ${by(requestId, principal)}${d.delivery === 'done' ? ', delivered' : ''}`
    }
    case 'claim':
      return `${JSON.stringify(d.key)} for ${by(d.requestId, d.principal)}`
    case 'violation':
      return `${JSON.stringify(d.key)} ${d.id}`
    case 'timer':
      return JSON.stringify(d.name === '' ? [d.scope, d.key] : [d.scope, d.key, d.name])
  }
}

/** The value before and after, as plain text; `field` is set where both sides are objects. */
interface ShownChange {
  readonly field?: string
  readonly before: string | undefined
  readonly after: string | undefined
}

/**
 * One change with the whole value where it was added or removed; where it changed, one for each field that
 * differs.
 */
function changesOf(difference: Difference): ShownChange[] {
  if (difference.kind === 'outcome') {
    return [{ before: outcomeText(difference.before), after: outcomeText(difference.after) }]
  }
  const { before, after } = difference.kind === 'effect' ? effectValues(difference) : difference
  if (!isObject(before) || !isObject(after)) return [{ before: jsonText(before), after: jsonText(after) }]
  const fields = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort()
  return fields.flatMap((field) => {
    const was = fieldText(before, field)
    const is = fieldText(after, field)
    return was === is ? [] : [{ field: plain(field), before: was, after: is }]
  })
}

function outcomeText(outcome: Outcome | undefined): string {
  switch (outcome?.status) {
    case undefined:
      return 'undecided'
    case 'accepted':
      return `accepted ${jsonText(outcome.value)}`
    case 'rejected':
      return `rejected ${plain(outcome.reason)} ${jsonText(outcome.details) ?? ''}`.trimEnd()
    case 'failed':
      return `failed ${outcome.code}: ${plain(outcome.message)}`
  }
}

/** Of an added or removed effect only the input: its type and its request are shown already. */
function effectValues({ before, after }: EffectDifference): BeforeAfter<unknown> {
  if (before === undefined || after === undefined) return { before: before?.input, after: after?.input }
  const compared = ({ type, scope, key, input }: ComparedEffect) => ({ type, scope, key, input })
  return { before: compared(before), after: compared(after) }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function jsonText(value: unknown): string | undefined {
  return value === undefined ? undefined : plain(canonicalJson(value))
}

function fieldText(value: Record<string, unknown>, field: string): string | undefined {
  return Object.hasOwn(value, field) ? jsonText(value[field]) : undefined
}

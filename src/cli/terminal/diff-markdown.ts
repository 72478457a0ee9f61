import type { DiffGroup, DiffSummary } from '../../diff/diff-summary.ts'
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
import { cut, cutToDifference, plain } from './plain-text.ts'

/** Which two versions of the code are compared: a hash, a tag, whatever a reader knows them by. */
export interface Versions {
  readonly before: string
  readonly after: string
}

/** GitHub takes 65,536 characters for a description or a comment; names have been cut to fewer than that. */
const pageCharactersMax = 60_000
/** Of each part so many groups stand in the table. */
const rowsMax = 50
/** Of each sample so many lines. */
const linesMax = 12
const valueColumnsMax = 200
const nameColumnsMax = 80

/**
 * A diff as a page of Markdown, for the description of a pull request: of GitHub's flavour, and at most 60,000 characters long.
 * Values are cut to 200 columns of a terminal. What is left out is counted.
 */
export function diffMarkdown(summary: DiffSummary, { before, after }: Versions): string {
  const { differences, sha256 } = summary
  const heading = `# What differs: ${code(before)} → ${code(after)}\n`
  if (differences === 0) return `${heading}\nNothing differs.\n`
  const sections = sectionsOf(summary)
  const page = [
    heading,
    `${numeral(differences)} ${differences === 1 ? 'difference' : 'differences'}. SHA-256 of the full output: \`${sha256}\`\n`,
    [
      `| | | ${countHeads.join(' | ')} |`,
      `| --- | --- | ${countHeads.map(() => '---:').join(' | ')} |`,
      ...sections.flatMap(({ title, groups }) => [
        ...groups
          .slice(0, rowsMax)
          .map((group) => `| ${title} | ${codeInTable(group.name)} | ${countCells(group).join(' | ')} |`),
        ...(groups.length > rowsMax
          ? [`| ${title} | … and ${numeral(groups.length - rowsMax)} more |${' |'.repeat(countHeads.length)}`]
          : []),
      ]),
      '',
    ].join('\n'),
  ]
  let length = page.join('\n').length
  let leftOut = 0
  for (const { title, groups } of sections) {
    let titled = false
    for (const group of groups) {
      if (group.samples.length === 0) continue
      const text = `${titled ? '' : `## ${title}\n\n`}${groupSection(group)}`
      // Once one does not fit none is shown any more, so that what is shown is the beginning.
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
    page.push(
      `The page ends here: ${numeral(leftOut)} more ${leftOut === 1 ? 'group is' : 'groups are'} left out.\n`,
    )
  }
  return page.join('\n')
}

function groupSection(group: DiffGroup): string {
  const hidden = hiddenOf(group)
  return [
    `### ${code(group.name)}`,
    '',
    countsText(group),
    '',
    // No line begins with what was made by others, so none can end the block.
    '```diff',
    ...group.samples.flatMap(sampleOf),
    '```',
    '',
    ...(hidden > 0 ? [`… and ${numeral(hidden)} more.`, ''] : []),
  ].join('\n')
}

function sampleOf(difference: Difference): string[] {
  const lines = changesOf(difference).flatMap(({ field, before, after }) => {
    const name = field === undefined ? '' : `${cut(field, nameColumnsMax)}: `
    if (before === undefined) return [`+ ${name}${cut(after!, valueColumnsMax)}`]
    if (after === undefined) return [`- ${name}${cut(before, valueColumnsMax)}`]
    const [was, is] = cutToDifference(before, after, valueColumnsMax)
    return [`- ${name}${was}`, `+ ${name}${is}`]
  })
  const shown =
    lines.length > linesMax
      ? [...lines.slice(0, linesMax), `  … and ${numeral(lines.length - linesMax)} more lines`]
      : lines
  return [`@@ ${cut(subjectOf(difference), valueColumnsMax)} @@`, ...shown]
}

/** Text as code, within a line: between more backticks than there are in it (CommonMark, 6.1). */
function code(text: string): string {
  const shown = cut(plain(text), nameColumnsMax)
  const longest = Math.max(0, ...(shown.match(/`+/g) ?? []).map(({ length }) => length))
  const fence = '`'.repeat(longest + 1)
  const pad = /^[` ]|[` ]$/.test(shown) || shown === '' ? ' ' : ''
  return `${fence}${pad}${shown}${pad}${fence}`
}

/** In a table a pipe ends a cell, in code too. */
function codeInTable(text: string): string {
  return code(text).replaceAll('|', '\\|')
}

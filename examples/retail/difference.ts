import { isDeepStrictEqual } from 'node:util'
import type { Diff } from 'hence'

/** A short text of a diff, with samples. `hence reprocess diff` has all of it. */
export function describeDiff(diff: Diff, file: string): string {
  const rows = diff.tables.map((group) => ({ ...group, what: `rows of ${group.name}` }))
  const outcomes = diff.outcomes.map((group) => ({ ...group, what: `outcomes ${group.name}` }))
  return [
    `It derives ${diff.differences} rows and outcomes differently (${file}):`,
    ...[...rows, ...outcomes].flatMap(({ what, added, removed, changed, samples }) => [
      `  ${added + removed + changed} ${what}`,
      ...samples.map((sample) => `    ${describeSample(sample)}`),
    ]),
  ].join('\n')
}

function describeSample(sample: Diff['tables'][number]['samples'][number]): string {
  const name =
    sample.kind === 'row' ? sample.key.join(' ') : sample.kind === 'outcome' ? sample.requestId : sample.kind
  return `${name}: ${textOf(sample.before, sample.after)} → ${textOf(sample.after, sample.before)}`
}

/** The fields of a row or an outcome that differ from the other. */
function textOf(side: unknown, other: unknown): string {
  if (side === undefined) return 'none'
  if (!isObject(side) || !isObject(other)) return JSON.stringify(side)
  const fields = Object.entries(side).filter(([name, value]) => !isDeepStrictEqual(value, other[name]))
  return JSON.stringify(Object.fromEntries(fields))
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

import { isDeepStrictEqual } from 'node:util'
import type { Diff } from 'hence'

/** For people: what two versions make differently, with examples. `hence reprocess diff` tells it at greater length. */
export function describeDiff(diff: Diff, file: string): string {
  const rows = diff.tables.map((group) => ({ ...group, what: `rows of ${group.name}` }))
  const outcomes = diff.outcomes.map((group) => ({ ...group, what: `outcomes ${group.name}` }))
  return [
    `It makes ${diff.differences} rows and outcomes differently (${file}):`,
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

/** What of a row or an outcome is not in the other one. */
function textOf(side: unknown, other: unknown): string {
  if (side === undefined) return 'none'
  if (!isObject(side) || !isObject(other)) return JSON.stringify(side)
  const fields = Object.entries(side).filter(([name, value]) => !isDeepStrictEqual(value, other[name]))
  return JSON.stringify(Object.fromEntries(fields))
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

import type { Diff } from 'hence'

/** For people: what two versions make differently, with examples. `hence reprocess diff` tells it at greater length. */
export function describeDiff(diff: Diff, file: string): string {
  const groups = [
    ...diff.tables.map((group) => ({ ...group, name: `rows of ${group.name}` })),
    ...diff.outcomes,
  ]
  return [
    `It differs in ${diff.differences} places (${file}):`,
    ...groups.flatMap(({ name, added, removed, changed, samples }) => [
      `  ${changed + added + removed} ${name}`,
      ...samples.map((sample) => `    ${nameOf(sample)}  ${textOf(sample.before)} → ${textOf(sample.after)}`),
    ]),
  ].join('\n')
}

type Sample = Diff['tables'][number]['samples'][number]

function nameOf(sample: Sample): string {
  if (sample.kind === 'row') return sample.key.join(' ')
  return sample.kind === 'outcome' ? sample.requestId : sample.kind
}

function textOf(side: unknown): string {
  const text = side === undefined ? 'none' : JSON.stringify(side)
  return text.length > 100 ? `${text.slice(0, 99)}…` : text
}

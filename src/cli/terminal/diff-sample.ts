import type { Outcome } from '../../app/index.ts'
import type { DiffGroup, DiffPart, DiffSummary, EffectGroup } from '../../diff/diff-summary.ts'
import type { AskedEffect, Difference, EffectDifference, Sides } from '../../diff/difference.ts'
import { canonicalJson } from '../../state/digest.ts'
import { plain } from './plain-text.ts'

/** The parts of a summary in which something differs, as people are shown them. */
export function sectionsOf(summary: DiffSummary): { title: string; groups: readonly DiffGroup[] }[] {
  return titles
    .map(([part, title]) => ({ title, groups: summary[part] }))
    .filter(({ groups }) => groups.length > 0)
}

const titles: readonly (readonly [part: DiffPart, title: string])[] = [
  ['tables', 'Rows'],
  ['outcomes', 'Outcomes'],
  ['effects', 'Effects'],
  ['claims', 'Claims'],
  ['standings', 'Limits and use'],
  ['violations', 'Violations'],
  ['timers', 'Timers'],
]

export const numeral = (count: number) => count.toLocaleString('en-US')

/** How many there are of each group: the heads of columns, and their cells. */
export const countHeads = ['added', 'removed', 'changed'] as const
export const countCells = (group: DiffGroup) => countHeads.map((head) => numeral(group[head]))

/** What is said of a group besides: `12 added, 3 removed`; of effects, how many had been delivered. */
export function countsText(group: DiffGroup): string {
  const counts = countHeads.flatMap((head) => (group[head] === 0 ? [] : [`${numeral(group[head])} ${head}`]))
  const { delivered = 0 } = group as Partial<EffectGroup>
  if (delivered > 0) counts.push(`${numeral(delivered)} already delivered`)
  return counts.join(', ')
}

/** How many of a group no sample is shown of. */
export function hiddenOf({ added, removed, changed, samples }: DiffGroup): number {
  return added + removed + changed - samples.length
}

/** What a difference is about, within its group; plain text. */
export function subjectOf(difference: Difference): string {
  const of = (requestId: string, principal: string) =>
    principal === '' ? requestId : `${requestId} by ${principal}`
  const d = difference
  switch (d.kind) {
    case 'row':
      return plain(JSON.stringify(d.key))
    case 'outcome':
      return plain(`${of(d.requestId, d.principal)} at ${d.partition}:${d.offset}`)
    case 'effect': {
      const { requestId, principal } = (d.before ?? d.after)!
      const delivered = d.delivery === 'done' ? ', delivered' : ''
      return plain(`${d.id} of ${of(requestId, principal)}${delivered}`)
    }
    case 'claim':
      return plain(`${JSON.stringify(d.key)} for ${of(d.requestId, d.principal)}`)
    case 'standing':
      return plain(JSON.stringify(d.key))
    case 'violation':
      return plain(`${JSON.stringify(d.key)} ${d.id}`)
    case 'timer':
      return plain(JSON.stringify(d.name === '' ? [d.scope, d.key] : [d.scope, d.key, d.name]))
  }
}

/** What was, and what is, as plain text; of one field where both are rows. */
export interface Change {
  readonly field?: string
  readonly before: string | undefined
  readonly after: string | undefined
}

/** What differs, as people look at it: a value that is new or gone as a whole, of one that changed the fields that did. */
export function changesOf(difference: Difference): Change[] {
  if (difference.kind === 'outcome') {
    return [{ before: outcomeText(difference.before), after: outcomeText(difference.after) }]
  }
  const { before, after } = difference.kind === 'effect' ? sidesOf(difference) : difference
  if (!isObject(before) || !isObject(after)) return [{ before: textOf(before), after: textOf(after) }]
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
      return `accepted ${textOf(outcome.value)}`
    case 'rejected':
      return `rejected ${plain(outcome.reason)} ${textOf(outcome.details) ?? ''}`.trimEnd()
    case 'failed':
      return `failed ${outcome.code}: ${plain(outcome.message)}`
  }
}

/** Of an effect that is new or gone its input tells enough, beside its type and its request. */
function sidesOf({ before, after }: EffectDifference): Sides<unknown> {
  if (before === undefined || after === undefined) return { before: before?.input, after: after?.input }
  const compared = ({ type, scope, key, input }: AskedEffect) => ({ type, scope, key, input })
  return { before: compared(before), after: compared(after) }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function textOf(value: unknown): string | undefined {
  return value === undefined ? undefined : plain(canonicalJson(value))
}

function fieldText(value: Record<string, unknown>, field: string): string | undefined {
  return Object.hasOwn(value, field) ? textOf(value[field]) : undefined
}

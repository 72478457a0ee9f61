/** How people are shown the summary of a diff. */
import type { Outcome } from '../../app/index.ts'
import { changeOf, type DiffGroup, type DiffPart, type DiffSummary } from '../../diff/diff-summary.ts'
import type { BeforeAfter, ComparedEffect, Difference, EffectDifference } from '../../diff/difference.ts'
import { shown } from '../../failure.ts'
import { plain } from '../../plain-text.ts'
import { canonicalJson } from '../../state/digest.ts'
import { paint } from './output.ts'

const titles: readonly (readonly [part: DiffPart, title: string])[] = [
  ['tables', 'Rows'],
  ['outcomes', 'Outcomes'],
  ['effects', 'Effects'],
  ['claims', 'Claims'],
  ['usage', 'Limits and use'],
  ['violations', 'Violations'],
  ['timers', 'Timers'],
]

const countHeads = ['added', 'removed', 'changed'] as const
const numeral = (count: number) => count.toLocaleString('en-US')

/** `12 added, 3 removed`; for effects also how many had been delivered. */
function countsText(group: DiffGroup & { readonly delivered?: number }): string {
  const counts = countHeads.flatMap((head) => (group[head] === 0 ? [] : [`${numeral(group[head])} ${head}`]))
  if (group.delivered) counts.push(`${numeral(group.delivered)} already delivered`)
  return counts.join(', ')
}

/** The largest number of groups of each part that are shown. */
const groupsMax = 50
const fieldsMax = 4
/** The longest value that is shown whole, in characters. */
const valueMax = 200
/** Stands for a missing field; it is not valid JSON, so no value looks like it. */
const missing = '(none)'

/** The counts of each group and its samples, cut where they are longer than some lines. */
export function summaryLines(summary: DiffSummary): string[] {
  const { differences, sha256 } = summary
  if (differences === 0) return ['Nothing differs.']
  return [
    `${numeral(differences)} ${differences === 1 ? 'difference' : 'differences'}`,
    paint.faint(`sha256 ${sha256}`),
    ...titles.flatMap(([part, title]) => [
      ...summary[part].slice(0, groupsMax).flatMap((group) => groupText(title, group)),
      ...moreText(summary[part].length - groupsMax, `${title}: `),
    ]),
  ]
}

function moreText(count: number, before: string): string[] {
  return count > 0 ? [paint.faint(`${before}… and ${numeral(count)} more`)] : []
}

function groupText(title: string, group: DiffGroup): string[] {
  const { added, removed, changed, samples } = group
  return [
    '',
    `${title}, ${paint.strong(shown(plain(group.name)))}: ${countsText(group)}`,
    ...samples.flatMap(sampleText),
    ...moreText(added + removed + changed - samples.length, '  '),
  ]
}

function sampleText(difference: Difference): string[] {
  const subject = shown(plain(nameOf(difference)), valueMax)
  const changes = changesOf(difference)
  const value = (text = missing) => shown(text, valueMax)
  switch (changeOf(difference)) {
    case 'added':
      return [`  ${paint.good('+')} ${subject} ${value(changes[0]!.after)}`]
    case 'removed':
      return [`  ${paint.bad('-')} ${subject} ${value(changes[0]!.before)}`]
    case 'changed':
      return [
        `  ${paint.warn('~')} ${subject}`,
        ...changes.slice(0, fieldsMax).map(({ field, before, after }) => {
          const name = field === undefined ? '' : `${shown(field, 20)}: `
          // A long common beginning would push the first difference out of sight.
          const [was = missing, is = missing] = [before, after]
          let same = 0
          while (same < was.length && was[same] === is[same]) same++
          const from = same > valueMax / 2 ? same - 20 : 0
          const cut = (text: string) =>
            (from > 0 ? '…' : '') + shown(text.slice(from).toWellFormed(), valueMax)
          return `      ${name}${cut(was)} → ${cut(is)}`
        }),
        ...moreText(changes.length - fieldsMax, '      '),
      ]
  }
}

/** Names a difference within its group. */
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

/** One change with the whole value where it was added or removed, else one for each field that differs. */
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

import type { Outcome } from '../../app/index.ts'
import { paint } from './output.ts'

export function outcomeText(outcome: Outcome | undefined): string {
  if (outcome === undefined) return 'not decided yet'
  const text =
    outcome.status === 'accepted'
      ? `${paint.good('accepted')} ${valueText(outcome.value)}`
      : outcome.status === 'rejected'
        ? `${paint.warn('rejected')} ${outcome.reason} ${valueText(outcome.details)}`
        : `${paint.bad('failed')} ${outcome.code}: ${outcome.message}`
  return text.trimEnd()
}

export function valueText(value: unknown): string {
  return value === undefined || value === null ? '' : JSON.stringify(value)
}

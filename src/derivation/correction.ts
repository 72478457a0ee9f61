import { correctionReactionName } from '../app/app.ts'
import type { App, Correction, Outcome } from '../app/index.ts'
import { type EffectRow, type Outbox, replacedError } from '../effect/outbox.ts'
import { senderOf } from '../identity.ts'
import type { CorrectedEffect, CorrectionRecord } from '../log/record.ts'
import { canonicalJson } from '../state/digest.ts'
import type { Origin } from './chain.ts'
import { namedUuid } from './seed.ts'

export function correctionFor({ identity, what }: CorrectionRecord['correction']): Correction {
  if (what.kind === 'outcome') {
    const { kind, type, input, before, after } = what
    return { kind, ...senderOf(identity), type, input, before: before as Outcome, after: after as Outcome }
  }
  if (what.kind === 'effect') {
    const { kind, id, type, after } = what
    const { input, state } = what.before as EffectRow
    return {
      kind,
      id,
      type,
      before: { input: JSON.parse(input), state },
      after: after === undefined ? undefined : { input: JSON.parse(after) },
    }
  }
  const { kind, table, rowKey, before, after } = what
  return { kind, table, key: rowKey.slice(1), before, after }
}

/** An effect for which the promoted generation asks with another input. */
export type ReplacedEffect = CorrectedEffect & { readonly after: string }

/** Whether this generation asks for what the promoted one did; a later one may ask for something else. */
export function isAskedFor(outbox: Outbox, effect: CorrectedEffect): effect is ReplacedEffect {
  const { id, after } = effect
  if (after === undefined || isOfCorrection(effect)) return false
  const row = outbox.known(id)
  return row !== undefined && isSameInput(row.input, after)
}

/** Whether an earlier correction asked for this effect. */
export function isOfCorrection({ before }: CorrectedEffect): boolean {
  return (before as EffectRow).correction === true
}

/** Whether the first content stays: with nothing under the id, later code could use it for other content. */
export function mustStay(outbox: Outbox, effect: CorrectedEffect): boolean {
  const row = outbox.known(effect.id)
  const before = effect.before as EffectRow
  if (isOfCorrection(effect))
    return (
      !row || !isSameInput(row.input, before.input) || (row.state === 'pending' && before.state === 'done')
    )
  return row === undefined && effect.after === undefined
}

function isSameInput(a: string, b: string): boolean {
  return canonicalJson(JSON.parse(a)) === canonicalJson(JSON.parse(b))
}

/**
 * Puts the row of the generation that was live before in the place of the new one, or of none: an id is never
 * used for two contents. An effect that was still pending there ends, so that it is not delivered, unless an
 * earlier correction asked for it and the code still answers corrections of its scope: a rollback to code
 * that does not takes a letter back.
 * @param time log time, in milliseconds since 1970
 */
export function keepFirstContent(
  app: App,
  outbox: Outbox,
  { id, before }: CorrectedEffect,
  time: number,
): void {
  const row = before as EffectRow
  const stays = row.correction && app.reactions.has(correctionReactionName(row.scope))
  if (row.state !== 'pending' || stays) outbox.add(id, row)
  else outbox.add(id, { ...row, state: 'dead', endedAt: time, tries: 0, error: replacedError })
}

/** Asks for the new content of an effect under a new id, and returns that. */
export function askAgain(
  outbox: Outbox,
  { type, before, after }: ReplacedEffect,
  origin: Origin,
  time: number,
): string {
  const id = namedUuid(origin.seed, type, 0)
  const { state: _, endedAt: _e, tries: _t, result: _r, error: _f, ...asked } = before as EffectRow
  outbox.add(id, { ...asked, input: after, state: 'pending', at: time })
  return id
}

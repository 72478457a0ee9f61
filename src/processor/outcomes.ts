import type { Outcome } from '../app/index.ts'
import { assert } from '../assert.ts'
import {
  decodeStoredOutcome,
  encodeStoredOutcome,
  repliedTo,
  type StoredOutcome,
  withReceived,
} from '../derivation/stored-outcome.ts'
import { identitiesBefore } from '../identity.ts'
import type { CorrectionRecord } from '../log/record.ts'
import type { Collection } from '../state/cells.ts'
import { inPieces, type Pieces } from '../state/pieces.ts'
import type { State } from '../state/state.ts'

const textCodec = { encode: (text: string) => text, decode: (text: string) => text }

/** The stored outcomes, by the identity of the request. */
export class Outcomes {
  /** Kept as text, since hardly any is asked for again. */
  readonly #texts: Collection<string>
  /** For each reply the id that it names, and its identity: keys alone. */
  readonly #replies: Collection<string>

  static readonly collections = ['decided', 'replies']

  constructor(state: State) {
    this.#texts = state.collection('decided', textCodec, false)
    this.#replies = state.collection('replies', textCodec, false)
  }

  has(identity: string): boolean {
    return this.#texts.get(identity) !== undefined
  }

  get(identity: string): StoredOutcome | undefined {
    const text = this.#texts.get(identity)
    return text === undefined ? undefined : decodeStoredOutcome(text)
  }

  set(identity: string, stored: StoredOutcome): void {
    const text = encodeStoredOutcome(stored)
    // Reading a character makes the text flat: otherwise its parts would stay in memory until it is saved.
    const first = text.charCodeAt(0)
    assert(first >= 0x30 && first <= 0x39, 'a stored outcome begins with its partition', text)
    this.#texts.set(identity, text)
    if (stored.inReplyTo !== undefined) this.#replies.set(`${stored.inReplyTo}\n${identity}`, '')
  }

  /** The identities of the requests that reply to a request, an effect or a violation. */
  *repliesTo(id: string): Generator<string> {
    for (const [key] of this.#replies.range({ from: `${id}\n`, to: `${id}\v` }))
      yield key.slice(id.length + 1)
  }

  /** See `withReceived`. */
  correct({ correction: { identity, what } }: CorrectionRecord): void {
    if (what.kind !== 'outcome') return
    const stored = this.get(identity)
    if (stored?.outcome !== undefined) this.set(identity, withReceived(stored, what.told as Outcome))
  }

  /** The outcomes that are not forgotten, by identity, as stored. */
  kept(before: number): Iterable<[identity: string, text: string]> {
    return this.#texts.range({ from: identitiesBefore(before) })
  }

  /**
   * Forgets saved outcomes of requests whose id holds a time before this one; ids without a time are kept.
   * @param before in milliseconds since 1970
   * @param limit how many are forgotten at most
   */
  forget(before: number, limit: number): Pieces {
    const to = identitiesBefore(before)
    const remove = ([identity, text]: [identity: string, text: string]) => {
      const inReplyTo = repliedTo(text)
      if (inReplyTo !== undefined) this.#replies.delete(`${inReplyTo}\n${identity}`)
      this.#texts.drop(identity)
    }
    const from = (last: [identity: string, _: string] | undefined) =>
      this.#texts.stored({ from: last === undefined ? '7' : `${last[0]}\0`, to })
    return inPieces(from, remove, limit)
  }
}

import { createHash } from 'node:crypto'
import type { ResultRecord } from '../log/record.ts'
import { canonicalJson } from '../state/digest.ts'
import { forgetRows } from '../state/forget-rows.ts'
import { encodeKey } from '../state/keys.ts'
import type { Pieces } from '../state/pieces.ts'
import type { TableShape, TableState } from '../state/table.ts'

/**
 * Results that stand in the log before the record that asks for their effect: `hence.results`, by the id of
 * the effect. The log has the results of the live generation; other code may ask for the same effect later,
 * or with another input.
 */
export const earlyResults: TableShape = { name: 'hence.results', parts: [], indexes: { byAt: ['at'] } }

interface EarlyRow {
  /** Log time of the first, in milliseconds since 1970. */
  readonly at: number
  /** In the order of the log; the hash of the input in hexadecimal. */
  readonly results: readonly (Pick<ResultRecord, 'done' | 'tries' | 'text'> &
    Partial<Pick<ResultRecord, 'ms'>> & { readonly input: string })[]
}

/** The first 16 bytes of the SHA-256 of an input's canonical JSON (RFC 8785), as a latin1 string. */
export function inputHash(input: string): string {
  const text = canonicalJson(JSON.parse(input))
  return createHash('sha256').update(text).digest().toString('latin1', 0, 16)
}

export class EarlyResults {
  readonly #rows: TableState
  readonly #forgottenBefore: () => number
  #isEmpty: boolean | undefined

  /** @param forgottenBefore see `DerivationContext` */
  constructor(rows: TableState, forgottenBefore: () => number) {
    this.#rows = rows
    this.#forgottenBefore = forgottenBefore
  }

  /** Whether there surely is none. */
  get isEmpty(): boolean {
    this.#isEmpty ??= this.#rows.scan({ limit: 1 }).length === 0
    return this.#isEmpty
  }

  keep({ effect, input, done, tries, ms, text }: ResultRecord, at: number): void {
    this.#isEmpty = false
    const key = encodeKey([effect])
    const row = this.#known(key) ?? { at, results: [] }
    const result = {
      input: Buffer.from(input, 'latin1').toString('hex'),
      done,
      tries,
      ...(ms > 0 && { ms }),
      text,
    }
    this.#rows.put(key, { ...row, results: [...row.results, result] })
  }

  /** Removes and returns the results of an effect for the input that it was asked for with, in log order. */
  take(effect: string, input: string): ResultRecord[] {
    const key = encodeKey([effect])
    const row = this.isEmpty ? undefined : this.#known(key)
    if (row === undefined) return []
    const hash = inputHash(input)
    const taken: ResultRecord[] = []
    const rest: EarlyRow['results'][number][] = []
    for (const each of row.results) {
      const result = {
        ms: 0,
        ...each,
        kind: 'result',
        effect,
        input: Buffer.from(each.input, 'hex').toString('latin1'),
      } as const
      if (result.input === hash) taken.push(result)
      else rest.push(each)
    }
    if (rest.length > 0) this.#rows.put(key, { ...row, results: rest })
    else this.#rows.delete(key)
    return taken
  }

  /** Forgotten results do not count, though their row may still be there. */
  #known(key: string): EarlyRow | undefined {
    const row = this.#rows.get(key) as EarlyRow | undefined
    return row && row.at < this.#forgottenBefore() ? undefined : row
  }

  /** Forgets results from before a time, of at most `limit` effects. */
  *forget(before: number, limit: number): Pieces {
    if (!this.isEmpty) yield* forgetRows(this.#rows, { index: 'byAt', to: [before] }, limit)
  }
}

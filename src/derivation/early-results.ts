import { createHash } from 'node:crypto'
import type { ResultRecord } from '../log/record.ts'
import { canonicalJson } from '../state/digest.ts'
import { encodeKey } from '../state/keys.ts'
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
  readonly results: readonly (Pick<ResultRecord, 'done' | 'tries' | 'text'> & { readonly input: string })[]
}

/**
 * Names the input of an effect, whatever the order of its fields: the first 16 bytes of the SHA-256 of its
 * canonical JSON (RFC 8785), as a latin1 string.
 * @param input JSON text
 */
export function inputHash(input: string): string {
  const text = canonicalJson(JSON.parse(input))
  return createHash('sha256').update(text).digest().toString('latin1', 0, 16)
}

export class EarlyResults {
  readonly #rows: TableState
  #isEmpty: boolean | undefined

  constructor(rows: TableState) {
    this.#rows = rows
  }

  /** Whether there surely is none. */
  get isEmpty(): boolean {
    this.#isEmpty ??= this.#rows.scan({ limit: 1 }).length === 0
    return this.#isEmpty
  }

  keep({ effect, input, done, tries, text }: ResultRecord, at: number): void {
    this.#isEmpty = false
    const key = encodeKey([effect])
    const row = (this.#rows.get(key) as EarlyRow | undefined) ?? { at, results: [] }
    const result = { input: Buffer.from(input, 'latin1').toString('hex'), done, tries, text }
    this.#rows.put(key, { ...row, results: [...row.results, result] })
  }

  /**
   * Removes and returns the results of an effect, in the order of the log.
   * @param input the input that it was asked for with, as JSON text
   */
  take(effect: string, input: string): ResultRecord[] {
    const key = encodeKey([effect])
    const row = this.isEmpty ? undefined : (this.#rows.get(key) as EarlyRow | undefined)
    if (row === undefined) return []
    const hash = inputHash(input)
    const taken: ResultRecord[] = []
    const rest: EarlyRow['results'][number][] = []
    for (const each of row.results) {
      const result = {
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

  /** Forgets results from before a time, at most `limit` effects' at once. */
  forget(before: number, limit: number): void {
    if (this.isEmpty) return
    for (const { key } of this.#rows.scan({ index: 'byAt', to: [before], limit })) {
      this.#rows.delete(encodeKey(key))
    }
  }
}

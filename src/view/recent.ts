import type { KeyPart, TableChange } from '../app/index.ts'
import { orAborted } from '../clock.ts'
import { changeError } from '../failure.ts'
import { mainRealm } from '../sandbox/realm.ts'
import { decodeKey } from '../state/keys.ts'
import type { StateChange } from '../state/state.ts'
import type { TableState } from '../state/table.ts'

/** How many changed rows are kept. */
const rowsMax = 10_000

interface ChangedRecord {
  readonly partition: number
  readonly offset: number
  /** The position after it. */
  readonly position: string
  readonly changes: readonly StateChange[]
}

/**
 * The latest changes of the rows of a version of a view, in the order of folding. They are in memory alone:
 * after a crash those that were not saved are folded again, in the same order.
 */
export class RecentChanges {
  readonly #table: TableState
  /** Names the version in positions. */
  readonly #version: string
  /** By partition: everything folded from here on is kept; undefined until it is fed. */
  #from: number[] | undefined
  #at: number[] = []
  /** The position after the last record that changed a row, also one of before; undefined if not known. */
  #changedAt: readonly number[] | undefined
  #records: ChangedRecord[] = []
  /** How many records were forgotten, and the number of rows of the others. */
  #forgotten = 0
  #rows = 0
  #isEnded = false
  #next = Promise.withResolvers<void>()

  /** @param changedAt that of the saved rows */
  constructor(table: TableState, version: string, changedAt: readonly number[] | undefined) {
    this.#table = table
    this.#version = version
    this.#changedAt = changedAt
  }

  get changedAt(): readonly number[] | undefined {
    return this.#changedAt
  }

  get position(): string {
    return `${this.#at.join('.')}@${this.#version}`
  }

  get isKept(): boolean {
    return this.#from !== undefined
  }

  /** All records before these offsets have been folded. */
  reached(positions: readonly number[]): void {
    this.#at = [...positions]
    // Who has the last change that was saved has all of them.
    this.#from ??= [...(this.#changedAt ?? positions)]
  }

  add(partition: number, offset: number, changes: readonly StateChange[]): void {
    this.#at[partition] = offset + 1
    if (changes.length === 0) return
    this.#changedAt = [...this.#at]
    this.#records.push({ partition, offset, position: this.position, changes })
    this.#rows += changes.length
    while (this.#rows > rowsMax && this.#records.length > 1) {
      const first = this.#records.shift()!
      this.#rows -= first.changes.length
      this.#forgotten++
      this.#from![first.partition] = first.offset + 1
    }
    this.#wake()
  }

  /** Ends all followers. */
  end(): void {
    this.#isEnded = true
    this.#wake()
  }

  /**
   * Iterates over the changes after a position, and then as they are made, until they end.
   * @param ends by partition: the end of the log
   */
  async *follow(from: string, ends: readonly number[], signal: AbortSignal | undefined) {
    const [text, version] = from.split('@')
    const seen = text!.split('.').map(Number)
    const first = this.#from ?? []
    const isKnown = seen.every((offset, i) => offset >= first[i]! && offset <= ends[i]!)
    if (version !== this.#version || seen.length !== first.length || !isKnown) throw unknown(from)
    for (let next = this.#forgotten; !this.#isEnded && !signal?.aborted; ) {
      if (next < this.#forgotten) throw unknown(from)
      const record = this.#records[next - this.#forgotten]
      if (record === undefined) {
        await orAborted(this.#next.promise, signal)
        continue
      }
      next++
      const { partition, offset, position, changes } = record
      if (offset >= seen[partition]!)
        yield { position, changes: changes.map((change) => this.#shown(change, `${partition}:${offset}`)) }
    }
  }

  #shown({ key, before, after }: StateChange, token: string): TableChange {
    const { name: table, kinds } = this.#table
    const [old, fresh] = [before, after].map((row) => row && mainRealm.seal(row))
    return { table, key: decodeKey(kinds, key).parts as KeyPart[], before: old, after: fresh, token }
  }

  #wake(): void {
    this.#next.resolve()
    this.#next = Promise.withResolvers()
  }
}

const unknown = (position: string) =>
  changeError(
    'position-unknown',
    `The position ${JSON.stringify(position)} does not belong to these rows, or is too far behind. Read ` +
      'the view again, and continue from its current position.',
  )

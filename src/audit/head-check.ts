import type { KeyObject } from 'node:crypto'
import { isSignedBy, type SignedHead } from './head.ts'

/** What somebody has signed of a partition: the root that its first records must have. */
interface Signed {
  readonly root: string
  readonly source: string
  readonly time: number
}

/** A head that the log does not keep. */
export interface HeadFlaw {
  readonly partition: number
  readonly message: string
  /** The records that are in question: from the last head that fits to the first that does not. */
  readonly from: number
  readonly to: number
}

/** Gathers heads, and holds a log against them while it is read from its beginning. */
export class HeadCheck {
  readonly #logId: string
  readonly #key: KeyObject
  readonly #signed = new Map<number, Map<number, Signed[]>>()
  /** By partition: the size of the largest tree that fitted. */
  readonly #fitting = new Map<number, number>()
  readonly #flaws = new Map<number, HeadFlaw>()
  #count = 0

  constructor(logId: string, key: KeyObject) {
    this.#logId = logId
    this.#key = key
  }

  get count(): number {
    return this.#count
  }

  /** Takes a head; says what is wrong with it, if anything is. */
  add(head: SignedHead, source: string): string | undefined {
    const when = new Date(head.time).toISOString()
    if (head.logId !== this.#logId) {
      return `A head in ${source} is of log ${head.logId}; the log here is ${this.#logId}.`
    }
    if (!isSignedBy(this.#key, head)) return `The head of ${when} in ${source} is not signed with the key.`
    this.#count++
    for (const [partition, { size, root }] of head.partitions.entries()) {
      const sizes = this.#signed.get(partition) ?? new Map<number, Signed[]>()
      this.#signed.set(partition, sizes)
      const same = sizes.get(size) ?? []
      // Most heads repeat what others say of a partition; only what differs is kept.
      if (same.every((each) => each.root !== root))
        sizes.set(size, [...same, { root, source, time: head.time }])
    }
    return undefined
  }

  /** Whether a head speaks of this size. */
  asks(partition: number, size: number): boolean {
    return this.#signed.get(partition)?.has(size) ?? false
  }

  /** Compares the root of the first records of a partition with the heads of that size. */
  compare(partition: number, size: number, root: string): void {
    const bad = this.#signed
      .get(partition)!
      .get(size)!
      .find((each) => each.root !== root)
    if (bad === undefined) {
      if (!this.#flaws.has(partition)) this.#fitting.set(partition, size)
      return
    }
    this.#flaw(partition, size, bad, 'are not those that were signed')
  }

  /** Tells which partitions are shorter than what was signed; after all was compared. */
  end(partition: number, size: number): void {
    for (const [signed, [first]] of this.#signed.get(partition) ?? []) {
      if (signed > size)
        this.#flaw(partition, signed, first!, `are not all there: it has only ${size} records`)
    }
  }

  get flaws(): readonly HeadFlaw[] {
    return [...this.#flaws.values()]
  }

  #flaw(partition: number, to: number, { source, time }: Signed, what: string): void {
    if (this.#flaws.has(partition)) return
    const from = this.#fitting.get(partition) ?? 0
    const message =
      `Records ${from} to ${to - 1} of partition ${partition} ${what} at ${new Date(time).toISOString()} (a head in ${source}). ` +
      'The log was rewritten after that, or its files are those of an earlier time.'
    this.#flaws.set(partition, { partition, message, from, to })
  }
}

import type { KeyObject } from 'node:crypto'
import { isSignedBy, type SignedHead } from './head.ts'

interface SignedRoot {
  readonly root: string
  readonly source: string
  readonly time: number
}

interface HeadFlaw {
  readonly partition: number
  readonly message: string
  /** The range of records in question: from the last head that fits to the first that does not. */
  readonly from: number
  readonly to: number
}

/** Collects heads, and compares a log with them while it is read from its beginning. */
export class HeadCheck {
  readonly #logId: string
  readonly #keys: readonly KeyObject[]
  readonly #signed = new Map<number, Map<number, SignedRoot[]>>()
  /** By partition: the size of the largest tree that fits. */
  readonly #fitting = new Map<number, number>()
  readonly #flaws = new Map<number, HeadFlaw>()
  count = 0

  /** @param keys those that the signer has had, one after the other */
  constructor(logId: string, keys: readonly KeyObject[]) {
    this.#logId = logId
    this.#keys = keys
  }

  /** Takes a head. Returns what is wrong with it, if anything. */
  add(head: SignedHead, source: string): string | undefined {
    const when = new Date(head.time).toISOString()
    if (head.logId !== this.#logId) {
      return `A head in ${source} is of log ${head.logId}; the log here is ${this.#logId}.`
    }
    if (!this.#keys.some((key) => isSignedBy(key, head)))
      return `The head of ${when} in ${source} is not signed with the key.`
    this.count++
    for (const [partition, { size, root }] of head.partitions.entries()) {
      const sizes = this.#signed.get(partition) ?? new Map<number, SignedRoot[]>()
      this.#signed.set(partition, sizes)
      const same = sizes.get(size) ?? []
      // Most heads repeat the root of a partition; only different ones are kept.
      if (same.every((each) => each.root !== root))
        sizes.set(size, [...same, { root, source, time: head.time }])
    }
    return undefined
  }

  /** Whether a head covers exactly this many records. */
  asks(partition: number, size: number): boolean {
    return this.#signed.get(partition)?.has(size) ?? false
  }

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

  /** Ends the comparison of a partition: finds that it is shorter than a head says. */
  end(partition: number, size: number): void {
    for (const [signed, [first]] of this.#signed.get(partition) ?? []) {
      if (signed > size)
        this.#flaw(partition, signed, first!, `are not all there: it has only ${size} records`)
    }
  }

  get flaws(): readonly HeadFlaw[] {
    return [...this.#flaws.values()]
  }

  #flaw(partition: number, to: number, { source, time }: SignedRoot, what: string): void {
    if (this.#flaws.has(partition)) return
    const from = this.#fitting.get(partition) ?? 0
    const message =
      `Records ${from} to ${to - 1} of partition ${partition} ${what} at ${new Date(time).toISOString()} ` +
      `(a head in ${source}). The log was rewritten after that, or its files are those of an earlier time.`
    this.#flaws.set(partition, { partition, message, from, to })
  }
}

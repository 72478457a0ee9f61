import { assert } from '../assert.ts'
import type { HenceError } from '../failure.ts'
import type { Position } from '../log/log.ts'
import { positionNumber } from './event-order.ts'

/** Finds out which requests are complete: they and all events that follow from them have been applied. */
export class Completion {
  readonly #positions: readonly number[]
  readonly #isDropped: (request: Position) => boolean
  /** By the position of a request: how many of its events are under way, and in memory. */
  readonly #underWay = new Map<number, number>()
  readonly #waiters = new Map<number, PromiseWithResolvers<void>>()

  /**
   * @param positions the offset of the record that each partition applies next; the one list, as it changes
   * @param isDropped returns whether an event that follows from a request is under way and not in memory
   */
  constructor(positions: readonly number[], isDropped: (request: Position) => boolean) {
    this.#positions = positions
    this.#isDropped = isDropped
  }

  /** Whether no event is under way in memory. */
  get isEmpty(): boolean {
    return this.#underWay.size === 0
  }

  /** Whether a request and all events that follow from it have been applied. */
  isComplete(partition: number, offset: number): boolean {
    if (this.#positions[partition]! <= offset) return false
    return !this.#underWay.has(positionNumber(partition, offset)) && !this.#isDropped({ partition, offset })
  }

  /** An event that follows from a request was emitted. */
  emitted(partition: number, offset: number): void {
    const root = positionNumber(partition, offset)
    this.#underWay.set(root, (this.#underWay.get(root) ?? 0) + 1)
  }

  /** An event that follows from a request was applied. */
  applied(partition: number, offset: number): void {
    this.dropped(partition, offset)
    this.check(partition, offset)
  }

  /** An event that follows from a request is under way, and in memory no more. */
  dropped(partition: number, offset: number): void {
    const root = positionNumber(partition, offset)
    const count = (this.#underWay.get(root) ?? 0) - 1
    assert(count >= 0, 'no more events of a request are applied than were emitted', `${partition}:${offset}`)
    if (count > 0) this.#underWay.set(root, count)
    else this.#underWay.delete(root)
  }

  /** Notifies whoever waits for a request, if it is complete. */
  check(partition: number, offset: number): void {
    if (this.#waiters.size === 0) return
    const root = positionNumber(partition, offset)
    const waiter = this.#waiters.get(root)
    if (waiter === undefined || !this.isComplete(partition, offset)) return
    waiter.resolve()
    this.#waiters.delete(root)
  }

  /** Waits until a request is complete; undefined if it is. Rejects if `abandon` comes first. */
  wait(partition: number, offset: number): Promise<void> | undefined {
    if (this.isComplete(partition, offset)) return undefined
    const root = positionNumber(partition, offset)
    const known = this.#waiters.get(root)
    if (known) return known.promise
    const waiter = Promise.withResolvers<void>()
    // The caller may not wait any more when it rejects.
    waiter.promise.catch(() => {})
    this.#waiters.set(root, waiter)
    return waiter.promise
  }

  /** Those who wait there wait here from now on. */
  takeOver(other: Completion): void {
    for (const [root, waiter] of other.#waiters) this.#waiters.set(root, waiter)
    other.#waiters.clear()
  }

  /** Rejects all that wait: nothing more will be applied. */
  abandon(error: HenceError): void {
    for (const waiter of this.#waiters.values()) waiter.reject(error)
    this.#waiters.clear()
  }
}

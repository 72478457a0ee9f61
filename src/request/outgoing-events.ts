import type { EventSpan, SentEvent } from '../log/record.ts'

/**
 * The events for one partition that its writer has to append: those of each source in their order, and of
 * several sources the earliest first. It holds none of them, so very many may wait.
 */
export class OutgoingEvents {
  readonly #at: (source: number, number: number) => SentEvent | undefined
  /** By source: the number of the event to append next, and behind the last one that may be appended. */
  readonly #next: number[] = []
  readonly #ends: number[] = []
  /** The sources that have some. */
  readonly #sources = new Set<number>()

  /** @param at returns an event that was not applied; undefined if it is not there for the moment */
  constructor(at: (source: number, number: number) => SentEvent | undefined) {
    this.#at = at
  }

  get isEmpty(): boolean {
    return this.#sources.size === 0
  }

  /** From here on the events up to this one may be appended. */
  passOn(source: number, number: number): void {
    this.#ends[source] = Math.max(this.#ends[source] ?? 0, number + 1)
    this.#next[source] ??= 0
    this.#look(source)
  }

  /** Begins anew, with all events that wait. */
  restart(spans: Iterable<EventSpan>): void {
    this.#next.length = this.#ends.length = 0
    this.#sources.clear()
    for (const { source, applied, next } of spans) {
      this.#next[source] = applied
      this.#ends[source] = next
      this.#look(source)
    }
  }

  /** Goes back to the first events that were not applied: the log has none of them. */
  goBack(spans: Iterable<EventSpan>): void {
    for (const { source, applied } of spans) {
      this.#next[source] = applied
      this.#look(source)
    }
  }

  /** Takes the earliest, up to these bounds, but at least one if there is any. */
  take(countMax: number, bytesMax: number): SentEvent[] {
    if (this.isEmpty) return []
    const taken: SentEvent[] = []
    const firsts = new Map<number, SentEvent>()
    const look = (source: number) => {
      const first = this.#look(source) ? this.#at(source, this.#next[source]!) : undefined
      if (first === undefined) firsts.delete(source)
      else firsts.set(source, first)
    }
    for (const source of this.#sources) look(source)
    for (let bytes = 0; taken.length < countMax && bytes < bytesMax; ) {
      let earliest: number | undefined
      for (const [source, { time }] of firsts)
        if (earliest === undefined || time < firsts.get(earliest)!.time) earliest = source
      if (earliest === undefined) break
      const event = firsts.get(earliest)!
      taken.push(event)
      bytes += event.bytes.length
      this.#next[earliest]!++
      look(earliest)
    }
    return taken
  }

  /** Whether a source has an event to append. */
  #look(source: number): boolean {
    const hasSome = this.#next[source]! < (this.#ends[source] ?? 0)
    if (hasSome) this.#sources.add(source)
    else this.#sources.delete(source)
    return hasSome
  }
}

import { assert } from '../assert.ts'

interface AskedEffect {
  readonly id: string
  /** When a derivation asked for it. */
  readonly at: number
}

/** The effects of one type, by key, in the order in which they were asked for. A key's first is tried. */
export class KeyOrder {
  readonly #place: (id: string) => readonly [offset: number, nth: number]
  readonly #lines = new Map<string, AskedEffect[]>()

  /** @param place decides between effects that were asked for at one time */
  constructor(place: (id: string) => readonly [offset: number, nth: number]) {
    this.#place = place
  }

  /**
   * Adds an effect; returns whether it is the first of its key.
   * @param isNew a derivation has just asked for it, after all others
   * @param takeBack takes back the turn of the first one, unless it was tried: then it stays first
   */
  add(key: string, effect: AskedEffect, isNew: boolean, takeBack: (id: string) => boolean): boolean {
    const line = this.#lines.get(key) ?? []
    this.#lines.set(key, line)
    let place = line.length
    while (!isNew && place > 0 && this.#isAfter(line[place - 1]!, effect)) {
      if (place === 1 && !takeBack(line[0]!.id)) break
      place--
    }
    line.splice(place, 0, effect)
    return place === 0
  }

  /** Removes an effect. Returns the one whose turn it is now; undefined if that has not changed. */
  remove(key: string, id: string): string | undefined {
    const line = this.#lines.get(key) ?? []
    const place = line.findIndex((each) => each.id === id)
    assert(place >= 0, 'an effect that is known has a place in the order of its key', id)
    line.splice(place, 1)
    if (line.length === 0) this.#lines.delete(key)
    return place === 0 ? line[0]?.id : undefined
  }

  #isAfter(one: AskedEffect, other: AskedEffect): boolean {
    if (one.at !== other.at) return one.at > other.at
    const [a, b] = [this.#place(one.id), this.#place(other.id)]
    return (a[0] - b[0] || a[1] - b[1]) > 0
  }
}

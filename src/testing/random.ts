/** Numbers in [0, 1) from mulberry32. A seed has the same sequence on every machine. */
export function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let bits = Math.imul(state ^ (state >>> 15), state | 1)
    bits = (bits + Math.imul(bits ^ (bits >>> 7), bits | 61)) ^ bits
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Random choices that follow from a seed. */
export class Draw {
  readonly random: () => number

  constructor(seed: number) {
    this.random = randomFrom(seed)
  }

  /** A whole number from 0 to `n - 1`. */
  below(n: number): number {
    return Math.floor(this.random() * n)
  }

  /** One of the choices. */
  one<const T>(...choices: readonly T[]): T {
    return choices[this.below(choices.length)]!
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.random() < probability
  }
}

import { changeError } from '../failure.ts'

/** The request that everything else in its chain follows from. */
export interface Chain {
  readonly identity: string
  /** Its position in the log. */
  readonly rootPartition: number
  readonly rootOffset: number
}

/** The depth of a derivation in its chain, and the seed of its randomness and of the ids that it makes. */
export class Origin {
  readonly depth: number
  readonly #seed: () => string
  #known: string | undefined
  #names: (() => string)[] | undefined
  #counts: Map<string, number> | undefined
  #counted: string[] | undefined

  constructor(depth: number, seed: () => string) {
    this.depth = depth
    this.#seed = seed
  }

  /** Computed on first use, since most derivations never need it. */
  get seed(): string {
    this.#known ??= this.#seed()
    return this.#known
  }

  /**
   * Makes a name one of its own among the system messages and violations of the derivation. It is counted now
   * and made when it is needed: most messages stay in their partition, where nobody asks for their ids.
   */
  named(name: () => string): () => string {
    this.#names ??= []
    const at = this.#names.push(name) - 1
    return () => this.#nameAt(at)
  }

  #nameAt(at: number): string {
    // Most derivations send one message.
    if (this.#names!.length === 1) return `0 ${this.#names![0]!()}`
    this.#counts ??= new Map()
    this.#counted ??= []
    for (let i = this.#counted.length; i <= at; i++) {
      const name = this.#names![i]!()
      const count = this.#counts.get(name) ?? 0
      this.#counts.set(name, count + 1)
      this.#counted.push(`${count} ${name}`)
    }
    return this.#counted[at]!
  }
}

/** A message that a derivation emitted: an event of the app, or a system message. */
export interface Emission {
  /** The name of the event; names of system messages begin with `hence:`. */
  readonly type: string
  /** The version of the type that the data has; 1 for system messages. */
  readonly version: number
  readonly key: string
  /** A value of the program's realm; for system messages, of the main realm. */
  readonly data: unknown
  readonly origin: Origin
  readonly chain: Chain
  /** Whether it goes through the log also where it stays in the partition, to be derived in a later step. */
  readonly isLater?: boolean | undefined
}

/** The longest chain of events that may follow from one request. */
export const chainDepthMax = 1_000
/** How many events one derivation may emit. */
export const emissionsMax = 10_000

export const tooMany = (what: string) =>
  changeError('too-many-events', `One derivation may emit ${emissionsMax} ${what} at most.`)

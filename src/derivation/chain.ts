/** The request that everything else in its chain follows from. */
export interface Chain {
  readonly identity: string
  /** Where it stands in the log. */
  readonly rootPartition: number
  readonly rootOffset: number
}

/** Where a derivation stands in its chain, and the seed that follows from it. */
export class Origin {
  readonly depth: number
  readonly #seed: () => string
  #known: string | undefined

  constructor(depth: number, seed: () => string) {
    this.depth = depth
    this.#seed = seed
  }

  /** Worked out only when somebody asks, since most derivations never do. */
  get seed(): string {
    this.#known ??= this.#seed()
    return this.#known
  }
}

/** A message on its way from the derivation that emitted it: an event of the app, or one of Hence's own. */
export interface Emission {
  /** The name of the event; those of Hence's own begin with `hence:`. */
  readonly type: string
  /** The version of its type that the data is of; 1 for those of Hence's own. */
  readonly version: number
  readonly key: string
  /** Of the realm of the program; for messages of Hence's own, of the main realm. */
  readonly data: unknown
  readonly origin: Origin
  readonly chain: Chain
}

/** The longest chain of events that may follow from one request. */
export const chainDepthMax = 1_000
/** How many events one derivation may emit. */
export const emissionsMax = 10_000

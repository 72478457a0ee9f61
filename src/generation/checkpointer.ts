import type { Generation } from './generation.ts'

/** With so many checkpoints' rows in memory, changing rows waits for the checkpoint under way. */
const fullAt = 4
/** With so many checkpoints' rows in memory, a checkpoint that failed is not repeated. */
const hopelessAt = 32
/** A checkpoint may forget so many times its rows of a kind: more than are added until it is saved. */
const forgetsMax = 4

/** Checkpoints a generation in the background, one at a time, when enough rows, or bytes, have changed. */
export class Checkpointer {
  readonly #generation: () => Generation
  readonly #rows: number
  readonly #failed: (error: unknown, isHopeless: boolean) => void
  #saving: Promise<void> | undefined
  /** In checkpoints' worth of changes. */
  #dueAt = 1

  /**
   * @param generation returns the generation to checkpoint, which may be replaced between two checkpoints
   * @param options.rows a checkpoint is due after so many changed rows
   * @param options.failed called with the error of a checkpoint, and whether it is hopeless to repeat it,
   *   since too many rows are in memory; an error that it throws rejects the promises that were returned.
   *   Default: it throws the error
   */
  constructor(
    generation: () => Generation,
    options: {
      readonly rows: number
      readonly failed?: (error: unknown, isHopeless: boolean) => void
    },
  ) {
    this.#generation = generation
    this.#rows = options.rows
    this.#failed = options.failed ?? rethrow
  }

  /** The checkpoint under way. */
  get saving(): Promise<void> | undefined {
    return this.#saving
  }

  get #checkpointsDirty(): number {
    return this.#generation().processor.checkpointsDirty(this.#rows)
  }

  /** Resolves when there is room for more changed rows; undefined while there is. */
  get room(): Promise<void> | undefined {
    return this.#checkpointsDirty > fullAt ? this.#saving : undefined
  }

  /** Begins a checkpoint if one is due; returns what to wait for before more rows are changed, usually nothing. */
  saveIfDue(): Promise<void> | undefined {
    if (this.#saving) return this.room
    const generation = this.#generation()
    if (this.#checkpointsDirty < this.#dueAt) return undefined
    this.#saving = this.#save(generation).finally(() => {
      this.#saving = undefined
    })
    // `failed` has handled the error, even if nobody waits.
    this.#saving.catch(() => {})
    return undefined
  }

  async #save(generation: Generation): Promise<void> {
    try {
      await generation.checkpoint(forgetsMax * this.#rows)
      this.#dueAt = 1
    } catch (error) {
      // Nothing is lost, since the log has everything: the next checkpoint comes after as many changes.
      this.#dueAt = this.#checkpointsDirty + 1
      this.#failed(error, this.#dueAt > hopelessAt)
    }
  }
}

function rethrow(error: unknown): never {
  throw error
}

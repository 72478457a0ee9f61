import { setImmediate as turn } from 'node:timers/promises'
import { assert } from '../assert.ts'
import { operatorError } from '../failure.ts'
import { ofOtherBranch, otherBranch } from '../log/links.ts'
import type { Log } from '../log/log.ts'
import { recordsBefore } from '../log/partitions.ts'
import type { Checkpoint } from '../processor/checkpoint.ts'
import { collectionsFor, tablesFor } from '../processor/derived-state.ts'
import { derivationMsDefault } from '../processor/limits.ts'
import { Processor } from '../processor/processor.ts'
import type { Replayed } from '../processor/replay.ts'
import { Reader } from '../query/reader.ts'
import type { Program } from '../sandbox/program.ts'
import { terminatedRun } from '../sandbox/watchdog.ts'
import { pieceRows } from '../state/pieces.ts'
import { State } from '../state/state.ts'
import type { Store } from '../state/store.ts'
import type { TableState } from '../state/table.ts'
import { TrackingStore } from '../state/tracking-store.ts'
import { takeOverConstraints, takeOverTables } from './take-over.ts'

/** The log, the stores and the code that generations are derived from. */
export interface GenerationHost {
  readonly log: Log
  openStore(generation: number, collections: readonly string[], anew: boolean): Promise<Store>
  /**
   * The code of a version.
   * @throws HenceError `code-not-kept` (change)
   */
  programOf(version: string): Promise<Program>
  /** Whether every record is derived twice. */
  readonly checked: boolean
  /** How long one derivation may take, in milliseconds. Default 5,000. */
  readonly derivationMs?: number | undefined
  /** How many bytes of events that wait stay in memory after a checkpoint. Default 4 MiB. */
  readonly heldBytes?: number
}

/** One derivation of the whole log: the code, the state so far, and the processor of the next record. */
export class Generation implements Replayed {
  readonly number: number
  /** See `lineageOf`. */
  readonly lineage: readonly number[]
  readonly #host: GenerationHost
  readonly #base: () => Promise<Program>
  #parts: GenerationParts
  #saving: Promise<void> | undefined

  /**
   * Opens a generation at its last checkpoint, or at the beginning of the log.
   * @param lineage its number, and its ancestors; see `lineageOf`
   * @param base the code at the beginning of the log, used if there is no checkpoint
   * @param anew drop the state that there is, and begin with none
   */
  static async open(
    host: GenerationHost,
    lineage: readonly number[],
    base: () => Promise<Program>,
    anew = false,
  ): Promise<Generation> {
    const parts = await savedParts(host, lineage, base, anew)
    const generation = new Generation(lineage, host, base, parts)
    try {
      // If a process ended while the code changed, the checkpoint is still that of the old code.
      await generation.followCode()
      return generation
    } catch (error) {
      await generation.close()
      throw error
    }
  }

  private constructor(
    lineage: readonly number[],
    host: GenerationHost,
    base: () => Promise<Program>,
    parts: GenerationParts,
  ) {
    this.number = lineage[0]!
    this.lineage = lineage
    this.#host = host
    this.#base = base
    this.#parts = parts
  }

  get derivationMs(): number {
    return this.#host.derivationMs ?? derivationMsDefault
  }

  get program(): Program {
    return this.#parts.program
  }

  get state(): State {
    return this.#parts.state
  }

  get store(): TrackingStore {
    return this.#parts.store
  }

  get tables(): ReadonlyMap<string, TableState> {
    return this.#parts.tables
  }

  get processor(): Processor {
    return this.#parts.processor
  }

  get reader(): Reader {
    return this.#parts.reader
  }

  /**
   * Saves state and positions together; one checkpoint at a time. An interrupted state is derived again.
   * @param forgets how many of each kind of old results are forgotten before
   */
  async checkpoint(forgets = 0): Promise<void> {
    const before = () => terminatedRun() ?? this.#saving
    for (let other = before(); other !== undefined; other = before()) await other.catch(() => {})
    if (this.state.isAbandoned) return
    this.#saving = this.#save(forgets).finally(() => {
      this.#saving = undefined
    })
    return this.#saving
  }

  async #save(forgets: number): Promise<void> {
    const { processor, state } = this
    const pause = async () => {
      await turn()
      await terminatedRun()?.catch(() => {})
      return !state.isAbandoned
    }
    if (forgets > 0) {
      // Twice as much as others added in the turn before, or there would be more and more.
      let due = 0
      for (const _ of processor.forget(forgets)) {
        due -= pieceRows
        if (due > 0) continue
        const before = state.dirtyCount
        if (!(await pause())) return
        due = 2 * (state.dirtyCount - before)
      }
      if (!(await pause())) return
    }
    await processor.checkpoint()
  }

  async followCode(): Promise<void> {
    const { version } = this.processor
    if (version === undefined || version === this.program.version) return
    const { program: before, state, processor } = this.#parts
    const applied = recordsBefore(this.processor.positions)
    const program = await this.#host.programOf(version)
    await this.checkpoint()
    await state.close()
    const store = await this.#host.openStore(
      this.number,
      [...new Set([...collectionsFor(before), ...collectionsFor(program)])],
      false,
    )
    try {
      await takeOverTables(store, before.app, program.app)
      const fact = this.processor.history.findLast(({ generation }) => generation === this.number)!
      await takeOverConstraints(store, before.app, program.app, { fact, logId: this.#host.log.id })
    } finally {
      await store.close()
    }
    this.#parts = await partsOf(this.#host, this.lineage, program, false)
    // Events of a generation that becomes live further on were noted already.
    this.processor.takeRecorded(processor)
    const restored = recordsBefore(this.processor.positions)
    assert(restored === applied, 'new code continues at the positions of the old code', restored, applied)
  }

  /**
   * Drops everything in memory, and goes back to the last checkpoint with the code loaded anew: after an
   * interruption nothing in memory can be relied on. Those who wait for requests go on waiting.
   */
  async reload(): Promise<void> {
    const { completion } = this.processor
    await this.close()
    this.#parts = await savedParts(this.#host, this.lineage, this.#base, false)
    await this.followCode()
    this.processor.completion.takeOver(completion)
  }

  async close(): Promise<void> {
    this.state.abandon()
    await this.#saving?.catch(() => {})
    await this.state.close()
  }
}

interface GenerationParts {
  readonly program: Program
  readonly store: TrackingStore
  readonly state: State
  readonly tables: ReadonlyMap<string, TableState>
  readonly processor: Processor
  readonly reader: Reader
}

/** Opens the last checkpoint, or the beginning of the log. */
async function savedParts(
  host: GenerationHost,
  lineage: readonly number[],
  base: () => Promise<Program>,
  anew: boolean,
): Promise<GenerationParts> {
  const saved = anew ? undefined : await savedCheckpoint(host, lineage[0]!)
  const isNamed = saved?.history.some(({ generation }) => generation === lineage[0])
  const program = await (isNamed ? host.programOf(saved!.version) : base())
  // It may be that of a candidate that was never promoted: another process gave its number to other code.
  const isOther =
    saved !== undefined &&
    (saved.version !== program.version || (saved.lineage ?? lineage).join() !== lineage.join())
  return partsOf(host, lineage, program, anew || isOther)
}

async function partsOf(
  { log, openStore, checked, heldBytes }: GenerationHost,
  lineage: readonly number[],
  program: Program,
  anew: boolean,
): Promise<GenerationParts> {
  const store = new TrackingStore(await openStore(lineage[0]!, collectionsFor(program), anew))
  const state = new State(store)
  const tables = tablesFor(program, state)
  const { id: logId, partitions } = log
  const processor = new Processor({ program, state, tables, logId, partitions, lineage, checked, heldBytes })
  try {
    processor.restore()
    const partition = await otherBranch(log, processor.links)
    if (partition !== undefined) throw ofOtherBranch(partition)
  } catch (error) {
    await state.close()
    throw error
  }
  return { program, store, state, tables, processor, reader: new Reader(program, tables, processor, log) }
}

/** The last checkpoint of a generation; undefined if there is none. */
export async function savedCheckpoint(
  { log, openStore }: Pick<GenerationHost, 'log' | 'openStore'>,
  generation: number,
): Promise<Checkpoint | undefined> {
  const store = await openStore(generation, ['meta'], false)
  let saved: Checkpoint | undefined
  try {
    const text = store.get('meta', 'checkpoint')
    saved = text === undefined ? undefined : (JSON.parse(text) as Checkpoint)
  } finally {
    await store.close()
  }
  if (saved === undefined || (saved.logId === log.id && saved.positions.length === log.partitions))
    return saved
  throw operatorError(
    'state-of-another-log',
    `The derived state belongs to log ${saved.logId}, the log here is ${log.id}. ` +
      'Restore the right log, or remove the folder `state`: it is derived again from the log.',
  )
}

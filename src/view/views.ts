import type { View } from '../app/index.ts'
import { changeError, type HenceError, operatorError, retryError } from '../failure.ts'
import { keptCode } from '../generation/codes.ts'
import type { Generation } from '../generation/generation.ts'
import { recordsBefore } from '../log/partitions.ts'
import type { AppBundle } from '../sandbox/bundle.ts'
import { sandboxedViews, type ViewProgram } from '../sandbox/program.ts'
import { digest } from '../state/digest.ts'
import type { StateName } from '../storage/states.ts'
import { codeName } from '../storage/storage.ts'
import { Feeding, type FeedingListener } from './feeding.ts'
import { stopped, storeOf, ViewFold, type ViewVersion } from './fold.ts'
import type { ViewsHost } from './host.ts'
import { entriesOf, manifestName, readViewsManifest, type ViewsManifest } from './manifest.ts'
import { type MessageNames, messagesAfter } from './messages.ts'
import { SqlViews } from './sql.ts'

/** How far a view is. */
export interface ViewStatus {
  readonly name: string
  /** The version of the code that its rows come from. */
  readonly version: string
  /** `following`: answers, and follows the log; `building`: derived from the log; `failed`: see `error`. */
  readonly state: 'following' | 'building' | 'failed'
  /** Records folded, of those applied by the live generation. */
  readonly records: number
  readonly of: number
  /** While rows are derived anew: the version of those that answer meanwhile. */
  readonly answering?: string
  readonly error?: { readonly code: string; readonly message: string }
}

/** The rows of a view that answer, and those that are to answer. */
interface Slot {
  readonly name: string
  readonly program: ViewProgram
  answering: ViewFold | undefined
  building: ViewFold | undefined
}

/**
 * The views beside the live generation: rows of new or changed code are derived in the background, and answer
 * when they have caught up; until then those before answer. No request waits for a view.
 */
export class Views {
  readonly #host: ViewsHost
  #slots: ReadonlyMap<string, Slot> = new Map()
  #feeding: Feeding | undefined
  #sql: SqlViews | undefined
  readonly #reported = new WeakSet<ViewFold>()
  /** Why nobody may read any more. */
  #ended: unknown
  /** Counts how often other rows began to answer. */
  switches = 0

  constructor(host: ViewsHost) {
    this.#host = host
  }

  /**
   * Takes the views of some modules in the place of those before: opens them at their last positions.
   * @throws HenceError `bundle-failed`, `app-invalid` (change); then nothing has changed
   */
  async use(modules: readonly AppBundle[]): Promise<void> {
    const { storage, report } = this.#host
    const taken = new Set((await this.#host.live()).program.app.tables.keys())
    const names = new Set<string>()
    const slots = new Map<string, Slot>()
    for (const bundle of modules) {
      const program = sandboxedViews(bundle)
      for (const [name, { sql }] of program.views) {
        if (taken.has(name) || names.has(sql?.toLowerCase() ?? '')) throw nameTaken(name)
        taken.add(name)
        if (sql !== undefined) names.add(sql.toLowerCase())
        slots.set(name, { name, program, answering: undefined, building: undefined })
      }
    }
    for (const { hash, code } of modules) await storage.keep(codeName(hash), code)
    await this.#stop()
    this.#slots = slots
    this.#sql = SqlViews.open(storage.directory, names.size > 0, report)
    this.switches++
    const live = await this.#host.live()
    const listener: FeedingListener = {
      caughtUp: (view) => this.#answer(view),
      failed: (view) => this.#failed(view),
      tooOld: (views, live) => this.#anew(views, live),
      otherGeneration: (live) => this.#follow(live),
    }
    this.#feeding = new Feeding(this.#host, listener, live.number)
    await this.#open(live, await readViewsManifest((name) => storage.kept(name)))
    // A short log is folded by the time that the engine is ready.
    await this.#feeding.round(live)
    this.#feeding.start((error) => {
      this.#ended = error
    })
  }

  /** By name, as they answer. */
  get tables(): ReadonlyMap<string, View> {
    const viewOf = ({ name, program, answering }: Slot) => (answering?.view ?? program.views.get(name))!
    return new Map([...this.#slots].map(([name, slot]) => [name, viewOf(slot)]))
  }

  has(name: string): boolean {
    return this.#slots.has(name)
  }

  status(live: Generation): ViewStatus[] {
    const of = recordsBefore(live.processor.positions)
    return [...this.#slots.values()].map(({ name, program, answering, building }) => {
      const shown = building ?? answering
      const error = shown?.failure
      return {
        name,
        version: program.version,
        state: error !== undefined ? 'failed' : building || !answering ? 'building' : 'following',
        records: recordsOf(shown),
        of,
        ...(building && answering && { answering: answering.version }),
        ...(error && { error: { code: error.code, message: error.message } }),
      }
    })
  }

  /**
   * The rows of a view.
   * @param at by partition: wait until it has folded so much
   * @throws HenceError `unknown-table` (change), `view-building` (retry), `view-failed` (operator)
   */
  async read(name: string, at?: readonly number[]): Promise<ViewFold> {
    for (;;) {
      if (this.#ended) throw this.#ended
      const slot = this.#slots.get(name)
      if (slot === undefined) throw unknownView(name, [...this.#slots.keys()])
      const { answering, building } = slot
      if (answering?.failure) throw answering.failure
      const isStale = at !== undefined && answering?.generation !== this.#feeding?.generation
      if (answering === undefined || isStale) throw building?.failure ?? notYet(name, recordsOf(building))
      if (at?.every((offset, partition) => answering.positions![partition]! >= offset) ?? true)
        return answering
      await this.#feeding!.passed()
    }
  }

  /** SHA-256 of the rows of a view, once it has folded so much. */
  async digest(name: string, at: readonly number[]): Promise<string> {
    return digest([(await this.read(name, at)).table])
  }

  /** The position of the rows of a view; see `changes`. */
  async position(name: string): Promise<string> {
    return (await this.read(name)).recent.position
  }

  /**
   * The changes of a view after a position, record by record, and then as it folds. Ends when the signal
   * aborts or the engine closes.
   * @throws HenceError `position-unknown` (change), also when other rows begin to answer
   */
  async *changes(name: string, from: string | undefined, signal: AbortSignal | undefined) {
    const fold = await this.read(name)
    const ends = (await this.#host.live()).processor.positions
    yield* fold.recent.follow(from ?? fold.recent.position, ends, signal)
    if (!signal?.aborted && this.#ended === undefined) throw fold.failure ?? otherRows(name)
  }

  /** See `Engine.messages`. */
  messages(names: MessageNames, from: string | undefined, signal: AbortSignal | undefined) {
    return messagesAfter(this.#host, names, from, signal)
  }

  get stores(): StateName[] {
    return entriesOf(this.#manifest())
      .filter(({ sql }) => sql === undefined)
      .map(storeOf)
  }

  /** A check has found the stored rows of a view damaged: the next start derives them again. */
  async damaged(store: StateName, error: unknown): Promise<void> {
    for (const { answering, building } of this.#slots.values()) {
      for (const view of [answering, building]) {
        if (view === undefined || storeOf(view) !== store) continue
        view.failure = stopped(view.name, 'when its stored rows were checked', error)
        await this.#failed(view)
      }
    }
  }

  /** @param why the reason that pending reads get */
  async close(why: Error): Promise<void> {
    this.#ended ??= why
    await this.#stop()
  }

  async #stop(): Promise<void> {
    await this.#feeding?.stop()
    for (const slot of this.#slots.values()) {
      const { answering, building } = slot
      slot.answering = slot.building = undefined
      for (const each of [answering, building]) {
        await each?.save()
        await each?.close()
      }
    }
    await this.#sql?.close()
    this.#sql = undefined
  }

  async #openFold(of: ViewVersion, program: ViewProgram): Promise<ViewFold> {
    const fold = await ViewFold.open({ storage: this.#host.storage, sql: this.#sql }, of, program)
    fold.saveFailed = () => void this.#failed(fold)
    return fold
  }

  async #drop(store: StateName): Promise<void> {
    await this.#host.storage.dropStore(store)
    await this.#sql?.drop(store)
  }

  /** Lets SQL read a view that answers. */
  async #answerSql(fold: ViewFold): Promise<void> {
    if (fold.view.sql !== undefined) await this.#sql?.answer(storeOf(fold), fold.view)
  }

  /** Finds the rows that there are for a generation, and which are to be derived. */
  async #open(live: Generation, manifest: ViewsManifest): Promise<void> {
    const feeding = this.#feeding!
    const fresh: ViewFold[] = []
    for (const slot of this.#slots.values()) {
      const { name, program } = slot
      const wanted: ViewVersion = { name, version: program.version, generation: live.number }
      const fold = await this.#openFold(wanted, program)
      fold.keepStopped(entriesOf(manifest))
      const saved = manifest.answering.find((each) => each.name === name)
      const before = saved && storeOf(saved) !== storeOf(wanted) ? saved : undefined
      if (fold.positions !== undefined && saved !== before) slot.answering = fold
      else {
        slot.building = fold
        slot.answering ??= before && (await this.#reopen(before))
        if (slot.answering?.generation === live.number) feeding.add(slot.answering)
      }
      if (slot.answering !== undefined) await this.#answerSql(slot.answering)
      if (fold.positions === undefined && saved !== before) this.#warn(lost(name))
      if (fold.positions === undefined) fresh.push(fold)
      else feeding.add(fold)
    }
    // The stores of an earlier time that nobody has opened.
    const used = new Set(entriesOf(this.#manifest()).map(storeOf))
    for (const each of entriesOf(manifest).map(storeOf)) if (!used.has(each)) await this.#drop(each)
    await this.#save()
    feeding.build(fresh, live)
  }

  /** The rows that answered before, if they are of use. */
  async #reopen(before: ViewVersion): Promise<ViewFold | undefined> {
    const { storage } = this.#host
    try {
      const program = sandboxedViews(await keptCode((name) => storage.kept(name), before.version))
      const fold = await this.#openFold(before, program)
      if (fold.positions !== undefined) return fold
      await fold.close()
    } catch (error) {
      this.#warn(error as HenceError)
    }
    return undefined
  }

  /** Lets rows answer that have caught up. */
  async #answer(view: ViewFold): Promise<void> {
    const slot = this.#slots.get(view.name)!
    if (slot.building !== view || view.failure) return
    const before = slot.answering
    await view.save()
    if (view.failure) return
    slot.answering = view
    slot.building = undefined
    this.switches++
    await this.#save()
    await this.#answerSql(view)
    if (before === undefined) return
    this.#feeding!.remove(before)
    // Reads of this turn may still have it.
    await new Promise((resolve) => setImmediate(resolve))
    await before.close()
    await this.#drop(storeOf(before))
  }

  /** Another generation is live: its rows are derived from its own past, and the present ones answer until then. */
  async #follow(live: Generation): Promise<void> {
    const { building } = this.#manifest()
    this.#feeding!.restart(live.number)
    for (const slot of this.#slots.values()) {
      await slot.building?.close()
      slot.building = undefined
      await slot.answering?.save()
    }
    await this.#open(live, { answering: [], building })
  }

  /** Derives rows anew that are too old to be fed. */
  async #anew(views: readonly ViewFold[], live: Generation): Promise<void> {
    const fresh: ViewFold[] = []
    for (const view of views) {
      const slot = this.#slots.get(view.name)!
      if (slot.answering === view) slot.answering = undefined
      await view.close()
      await this.#drop(storeOf(view))
      if (view.version !== slot.program.version) continue
      slot.building = await this.#openFold(view, slot.program)
      fresh.push(slot.building)
    }
    await this.#save()
    // An outcome may be forgotten while all traces are kept.
    this.#feeding!.build(fresh, live, true)
  }

  /** Reports why a view has stopped; `hence doctor` names it too. */
  async #failed(fold: ViewFold): Promise<void> {
    if (this.#reported.has(fold)) return
    this.#reported.add(fold)
    fold.recent.end()
    const { code, message } = fold.failure!
    this.#host.report({ level: 'alarm', code, message })
    await this.#save()
  }

  #warn({ code, message }: HenceError): void {
    this.#host.report({ level: 'warning', code, message })
  }

  #manifest(): ViewsManifest {
    const of = (fold: ViewFold | undefined) => (fold === undefined ? [] : [fold.saved])
    const slots = [...this.#slots.values()]
    return {
      answering: slots.flatMap(({ answering }) => of(answering)),
      building: slots.flatMap(({ building }) => of(building)),
    }
  }

  #save(): Promise<void> {
    return this.#host.storage.keep(manifestName, JSON.stringify(this.#manifest()))
  }
}

function recordsOf(fold: ViewFold | undefined): number {
  return fold?.positions === undefined ? (fold?.derived ?? 0) : recordsBefore(fold.positions)
}

function notYet(name: string, records: number): HenceError {
  return retryError(
    'view-building',
    `The view "${name}" is being derived from the log, and has folded ${records} records. Read again later; ` +
      '`hence views` says how far it is.',
  )
}

function unknownView(name: string, all: readonly string[]): HenceError {
  return changeError('unknown-table', `There is no view "${name}"; there are: ${all.join(', ') || 'none'}.`)
}

function otherRows(name: string): HenceError {
  return changeError(
    'position-unknown',
    `Other rows of the view "${name}" answer now. Read it again, and continue from its current position.`,
  )
}

function lost(name: string): HenceError {
  return operatorError(
    'state-unreadable',
    `The stored rows of the view "${name}" are gone, or of another log: it is derived again.`,
  )
}

function nameTaken(name: string): HenceError {
  return changeError(
    'app-invalid',
    `The view "${name}" has the name of a table, or of another view, perhaps in SQL: rename one.`,
  )
}

import { orAborted } from '../clock.ts'
import type { HenceError } from '../failure.ts'
import type { Generation } from '../generation/generation.ts'
import { recordsBefore } from '../log/partitions.ts'
import { Pace } from '../reprocess/pace.ts'
import { deriveAgain } from './derive.ts'
import { messagesOf, type TracedRecord, TraceFeed } from './feed.ts'
import { stopped, type ViewFold } from './fold.ts'
import type { ViewsHost } from './host.ts'

export interface FeedingListener {
  /** A view has folded all there is. */
  caughtUp(view: ViewFold): Promise<void>
  failed(view: ViewFold): Promise<void>
  /** The changes after the positions of views are no longer kept. */
  tooOld(views: readonly ViewFold[], live: Generation): Promise<void>
  otherGeneration(live: Generation): Promise<void>
}

/** How many traces are read in one turn of the event loop. */
const tracesAtOnce = 128
/** How many records are folded together: their requests are read from the log at once. */
const recordsAtOnce = 1_024
/** Once all views have caught up, records gather for this long, in milliseconds, unless a reader waits. */
const restMs = 20
/** The share of the time for views while requests are waited for. */
const share = 0.3
/** Log time passes the last records of several partitions in so many milliseconds. */
const passMs = 2

/** Feeds views with what the live generation derives, in slices of time, until it is stopped. */
export class Feeding {
  readonly #host: ViewsHost
  readonly #listener: FeedingListener
  readonly #pace: Pace
  readonly #stop = new AbortController()
  #feeds: TraceFeed[] = []
  #generation: number
  #running: Promise<void> | undefined
  #deriving: Promise<void> | undefined
  /** Settles when there is another feed, or a save has ended that others wait for. */
  #woken = Promise.withResolvers<void>()
  #passed = Promise.withResolvers<void>()
  /** Lets records gather. */
  readonly #gathering: Pace
  #isAwaited = false

  constructor(host: ViewsHost, listener: FeedingListener, generation: number) {
    this.#host = host
    this.#listener = listener
    this.#generation = generation
    this.#pace = this.#newPace()
    this.#gathering = this.#newPace()
    this.#pace.begin()
  }

  #newPace(): Pace {
    const { clock, isBusy, next } = this.#host
    return new Pace({ clock, isBusy, next, sliceMsMax: 5 }, share)
  }

  /** The generation that is followed. */
  get generation(): number {
    return this.#generation
  }

  /** Resolves when views have folded more, or never will. Until then no time is lost. */
  passed(): Promise<void> {
    this.#isAwaited = true
    this.#gathering.hurry()
    return orAborted(this.#passed.promise, this.#stop.signal)
  }

  /** Begins to feed another generation, and nobody yet. */
  restart(generation: number): void {
    this.#generation = generation
    this.#feeds = []
  }

  add(view: ViewFold): void {
    this.#feeds.push(new TraceFeed(this.#generation, view.positions!, [view]))
  }

  /** Feeds new views from the first record on, which is derived again where its changes are no longer kept. */
  build(views: ViewFold[], live: Generation, isTooOld = false): void {
    if (views.length === 0) return
    const { processor } = live
    const start = processor.positions.map(() => 0)
    if (isTooOld || start.some((_, partition) => processor.feedFrom(partition) > 0)) {
      this.#derive(views, live)
      return
    }
    for (const view of views) {
      view.positions = start
      this.add(view)
    }
  }

  remove(view: ViewFold): void {
    for (const { views } of this.#feeds) if (views.includes(view)) views.splice(views.indexOf(view), 1)
  }

  /** @param failed called when it ends by itself, since the engine has */
  start(failed: (error: unknown) => void): void {
    this.#running = this.#run().catch((error) => {
      if (!this.#stop.signal.aborted) failed(error)
      this.#stop.abort()
    })
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    this.#pace.hurry()
    this.#gathering.hurry()
    await this.#running
    await this.#deriving
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted) {
      const live = await this.#host.live()
      if (live.number !== this.#generation) await this.#listener.otherGeneration(live)
      // Before reading, so that no record that is applied meanwhile is missed.
      const next = this.#host.next()
      next.catch(() => {})
      const woken = this.#woken.promise
      if (await this.round(live)) continue
      if (this.#feeds.some(({ isWaiting }) => isWaiting)) await this.#pace.sleep(passMs)
      else await orAborted(Promise.race([next, woken]), signal)
      this.#gathering.begin()
      if (!this.#isAwaited) await this.#gathering.sleep(restMs)
    }
  }

  /** @returns whether there may be more to fold at once */
  async round(live: Generation): Promise<boolean> {
    let isBehind = false
    for (const feed of [...this.#feeds]) if (await this.#feed(feed, live)) isBehind = true
    this.#merge()
    this.#isAwaited = false
    this.#passed.resolve()
    this.#passed = Promise.withResolvers()
    return isBehind
  }

  async #feed(feed: TraceFeed, live: Generation): Promise<boolean> {
    const records: TracedRecord[] = []
    const { processor } = live
    let isBehind = true
    try {
      while (isBehind && records.length < recordsAtOnce) {
        const taken = feed.take(processor, this.#host.frontier(), tracesAtOnce)
        records.push(...taken)
        isBehind = taken.length === tracesAtOnce
        await this.#pace.rest()
      }
      await this.#fold(feed.views, records, live, this.#pace)
    } catch (error) {
      this.#feeds.splice(this.#feeds.indexOf(feed), 1)
      // A promotion closes what is read, and so does a generation that starts over.
      const now = await this.#host.live()
      if (now.number !== live.number) return true
      if (now.processor !== processor) for (const view of feed.views) this.add(view)
      else if ((error as HenceError).code === 'position-unknown')
        await this.#listener.tooOld(feed.views, live)
      else await this.#failAll(feed.views, error)
      return true
    }
    const { positions } = feed
    await this.#dropFailed(feed.views)
    for (const view of [...feed.views]) {
      view.positions = positions
      await view.saveIfDue(this.#host.checkpointRows)
      if (isBehind) continue
      // SQL reads what was saved. Rows that changed after a save began are saved after it.
      if (view.view.sql !== undefined)
        if (view.saving === undefined) void view.saveIfDue(1)
        else void view.saving.then(() => this.#wake())
      await this.#listener.caughtUp(view)
    }
    await this.#dropFailed(feed.views)
    return isBehind
  }

  async #fold(
    views: readonly ViewFold[],
    traced: readonly TracedRecord[],
    from: Generation,
    pace: Pace,
  ): Promise<void> {
    const { log } = this.#host.storage
    if (traced.length === 0 || views.length === 0) return
    const { app } = from.program
    const records = await messagesOf(traced, { app, log, processor: from.processor }, views)
    for (const view of views) await view.fold(records, from.derivationMs, () => pace.rest())
  }

  /** Takes out the views that have failed, and reports them. */
  async #dropFailed(views: ViewFold[]): Promise<void> {
    for (const view of views.filter(({ failure }) => failure)) {
      views.splice(views.indexOf(view), 1)
      await this.#listener.failed(view)
    }
  }

  /** Derives the log again, since what it has changed is no longer kept. */
  #derive(views: ViewFold[], live: Generation): void {
    const before = this.#deriving
    const { signal } = this.#stop
    const isEnded = () => signal.aborted || live.number !== this.#generation || views.length === 0
    const pace = this.#newPace()
    const fold = async (records: readonly TracedRecord[], from: Generation) => {
      await this.#fold(views, records, from, pace)
      await this.#dropFailed(views)
      const derived = recordsBefore(from.processor.positions)
      for (const view of views) {
        view.derived = derived
        await view.saveIfDue(this.#host.checkpointRows)
      }
    }
    const act = async () => {
      await before
      if (isEnded()) return
      const positions = await deriveAgain(this.#host, live, { fold, isEnded, pace })
      if (positions === undefined) return
      for (const view of views) {
        view.positions = positions
        this.add(view)
      }
      this.#wake()
    }
    this.#deriving = act().catch((error) => this.#failAll(views, error))
  }

  #wake(): void {
    this.#woken.resolve()
    this.#woken = Promise.withResolvers()
  }

  async #failAll(views: readonly ViewFold[], error: unknown): Promise<void> {
    for (const view of views) {
      view.failure ??= stopped(view.name, 'while the log was read for it', error)
      await this.#listener.failed(view)
    }
  }

  /** Feeds that are at the same positions become one, so that traces are read once. */
  #merge(): void {
    const byPosition = new Map<string, TraceFeed>()
    for (const feed of this.#feeds) {
      const key = feed.positions.join('.')
      const other = feed.isWaiting ? undefined : byPosition.get(key)
      if (other === undefined) byPosition.set(key, feed)
      else other.views.push(...feed.views.splice(0))
    }
    this.#feeds = this.#feeds.filter(({ views }) => views.length > 0)
  }
}

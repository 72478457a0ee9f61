import type { App } from '../app/index.ts'
import { type Clock, elapsed, orAfter, pause } from '../clock.ts'
import { HenceError, retryError } from '../failure.ts'
import { Checkpointer } from '../generation/checkpointer.ts'
import type { Codes } from '../generation/codes.ts'
import { deathsMax } from '../generation/derive-tail.ts'
import { Generation, type GenerationHost } from '../generation/generation.ts'
import { baseOf, lineageOf, liveOf, versionOf } from '../log/control-history.ts'
import { findControls } from '../log/controls.ts'
import type { FileLog } from '../log/file-log/file-log.ts'
import { positionOf } from '../log/log.ts'
import { everyPartition, recordsBefore } from '../log/partitions.ts'
import { type ReplayLimits, replay } from '../processor/replay.ts'
import type { Reporter } from '../report.ts'
import { type AppSource, bundleApp } from '../sandbox/bundle.ts'
import { terminatedRun } from '../sandbox/watchdog.ts'
import { type ActiveNote, silentMs } from '../storage/active-note.ts'
import type { RunFile } from '../storage/run-file.ts'
import type { Storage } from '../storage/storage.ts'
import { Views } from '../view/views.ts'
import { adoptState } from './adopt-state.ts'
import type { Standby } from './engine.ts'
import { afterTooLate, unknownToken } from './read-after.ts'
import { Reads, type ReadsHost } from './reads.ts'
import { type StartProgress, type StartWatch, startPause } from './start-pause.ts'

/** How often a standby looks for new records, and who is active, in milliseconds. */
const lookMs = 50
/** The same while the carrier cannot be reached. */
const againMs = 1_000
/** How long a read may wait for `after`, or for a view, in milliseconds. */
const afterMsMax = 10_000

interface StandbyOptions extends StartWatch {
  readonly clock: Clock
  readonly report: Reporter
  readonly checkpointRows: number
  /** Whether to wait until no other process is active. */
  readonly wait: boolean
  readonly views?: readonly AppSource[] | undefined
  readonly state?: string | undefined
  readonly stateKey?: string | undefined
  standby?(standby: Standby<App>): void
}

interface StandbyHost {
  readonly log: FileLog
  readonly note: ActiveNote
  readonly storage: Storage
  readonly codes: Codes
  readonly generations: GenerationHost
}

/**
 * Waits until no other process is active on a log in a carrier, then takes the log. Meanwhile it copies and
 * derives what the active process appends, and answers reads from that. It appends nothing before it has the
 * log.
 *
 * @returns the live generation as far as it is derived; undefined if it is not: it is to be opened
 * @throws HenceError `log-in-use` (retry) if another process is active and `wait` is false; `log-taken`
 *   (retry) if another one was first; the reason of the signal
 */
export async function becomeActive(
  host: StandbyHost,
  options: StandbyOptions,
): Promise<Generation | undefined> {
  const { log, note } = host
  const { clock, report, wait, progress, signal = new AbortController().signal } = options
  const warm = new WarmStandby(host, options)
  let isWarm = true
  let said: string | undefined
  let unreachable = false
  let epoch = await log.epoch()
  /** Another process was faster: until then it says that it is active, or it has ended. */
  let patientUntil = 0
  try {
    for (;;) {
      signal.throwIfAborted()
      const at = elapsed(clock)
      let look: Look | undefined
      try {
        const holder = await note.holder()
        if (holder === undefined && at >= patientUntil) {
          if (said !== undefined) progress?.(warm.far)
          // Without `wait` there is nobody to follow afterwards: it competes until one has the log.
          await take(host, wait ? epoch : undefined)
          return await warm.handOver()
        }
        // One that has died looks alike for a moment.
        if (!wait && holder?.isAlive) throw inUse(holder)
        await log.catchUp()
        epoch = await log.epoch()
        if (holder) {
          const { who, address, frontier } = holder
          if (said !== who)
            report({ level: 'info', code: 'log-followed', message: `${who} is active; this one follows.` })
          said = who
          const ends = await Promise.all(everyPartition(log).map((partition) => log.end(partition)))
          look = { at, frontier, ends }
          warm.follow(address ?? who, ends)
        }
        unreachable = false
      } catch (error) {
        if (!wait || !isUnreachable(error)) throw error
        const isFaster = error.code === 'log-followed'
        if (isFaster) patientUntil = at + silentMs
        else if (!unreachable)
          report({ level: 'warning', code: 'carrier-unreachable', message: error.message })
        unreachable = !isFaster
      }
      try {
        if (isWarm && look) await warm.derive(look)
      } catch (error) {
        isWarm = false
        report({ level: 'warning', code: 'standby-not-warm', message: notWarm(error) })
        await warm.close(false)
      }
      await pause(clock, unreachable ? againMs : lookMs, signal)
    }
  } finally {
    await warm.close()
  }
}

/** Takes the log, or goes on following: after a failure another process may be active before the next try. */
async function take({ log, note }: StandbyHost, epoch: number | undefined): Promise<void> {
  try {
    await log.claim(epoch)
    await note.begin(await log.epoch())
  } catch (error) {
    await log.stepBack()
    throw error
  }
}

/** One look at the log. */
interface Look {
  /** When it began, by the monotonic clock. */
  readonly at: number
  /** All records with an earlier log time were there. */
  readonly frontier: number | undefined
  /** By partition: the end of the copy. */
  readonly ends: readonly number[]
}

/**
 * The live generation of a log that another process writes. It derives what that process has derived, and
 * says so in the log: the active process may still rule on a record behind that.
 */
class WarmStandby implements ReadsHost {
  readonly #log: FileLog
  readonly #host: StandbyHost
  readonly #options: StandbyOptions
  readonly #checkpointer: Checkpointer
  #generation: Generation | undefined
  views: Views | undefined
  readonly foldsWithinMs = afterMsMax
  #follows = ''
  /** How many records the copy has. */
  #copied = 0
  /** When the last look began whose records are all derived. */
  #derivedAt: number | undefined
  /** The next look of which that will be said. */
  #due: Look | undefined
  /** All records with an earlier log time are derived. */
  #frontier = 0
  /** Resolves after the next look, or at the end. */
  #next = Promise.withResolvers<void>()
  /** Resolves once the generation has taken over other code. */
  #changed: Promise<void> | undefined
  #isOffered = false
  /** After a process that died without a word: notes each record, until all there is has been derived once. */
  #run: RunFile | undefined

  constructor(host: StandbyHost, options: StandbyOptions) {
    const { run } = host.storage
    if (run?.died) this.#run = run
    this.#log = host.log
    this.#host = host
    this.#options = options
    this.#checkpointer = new Checkpointer(() => this.#generation!, { rows: options.checkpointRows })
  }

  /** Notes who is active, and where the copy ends. */
  follow(follows: string, ends: readonly number[]): void {
    this.#follows = follows
    this.#copied = recordsBefore(ends)
    this.#say()
  }

  /** How far it is. */
  get far(): StartProgress {
    const positions = this.#generation?.processor.positions
    return { derived: positions ? recordsBefore(positions) : 0, of: this.#copied }
  }

  #say(): void {
    this.#options.progress?.({ ...this.far, follows: this.#follows })
  }

  /** Derives what the copy has since a look. */
  async derive(look: Look): Promise<void> {
    this.#generation ??= await this.#open()
    const generation = this.#generation
    if (generation === undefined) return
    const { clock, signal } = this.#options
    const { positions } = generation.processor
    const decided = await Promise.all(
      everyPartition(this.#log).map((partition) => this.#log.decided(partition)),
    )
    // A process that was active has derived more than it could say.
    const ends = decided.map((offset, partition) => Math.max(offset, positions[partition]!))
    const left = recordsBefore(ends) - recordsBefore(positions)
    if (left > 0) {
      const save = () => this.#checkpointer.saveIfDue()
      const pause = startPause(left, { clock, signal, save, progress: () => this.#say() })
      const followCode = () => {
        this.#changed = generation.followCode()
        return this.#changed
      }
      const { derivationMs } = generation
      const replayed = {
        ...{ derivationMs, followCode },
        get processor() {
          return generation.processor
        },
      }
      const limits = this.#run && oneByOne(this.#run, derivationMs)
      await replay(this.#log, replayed, { ends, grows: true, pause, ...(limits && { limits }) })
      this.#say()
      // After a promotion another generation is live.
      if (liveOf(generation.processor.history) !== generation.number) return this.close()
    }
    if (signal?.aborted) return
    this.#due ??= look
    const { at, frontier = 0, ends: due } = this.#due
    this.#passed()
    if (due.some((end, partition) => generation.processor.position(partition) < end)) return
    this.#due = undefined
    this.#run?.ended()
    this.#run = undefined
    this.#frontier = Math.max(frontier, this.#frontier)
    this.views ??= await this.#openViews()
    this.#derivedAt = at
    if (!this.#isOffered) this.#options.standby?.(new StandbyReads(this))
    this.#isOffered = true
  }

  get storage(): Storage {
    return this.#host.storage
  }

  get live(): Generation {
    const generation = this.#generation
    if (this.#derivedAt === undefined || generation === undefined) throw this.refusal()
    // Nobody reads a new table before all of its rows from the past are there.
    if (generation.processor.filling) throw this.refusal()
    return generation
  }

  async settled(): Promise<Generation> {
    for (let wait: Promise<unknown> | undefined = this.#changed; wait; wait = terminatedRun()) await wait
    return this.live
  }

  async completed(token: string): Promise<void> {
    const position = positionOf(token, this.#log.partitions)
    if (position === undefined) throw unknownToken(token)
    const { clock } = this.#options
    for (const until = elapsed(clock) + afterMsMax; ; ) {
      const { processor } = await this.settled()
      if (processor.completion.isComplete(position.partition, position.offset)) return
      const left = until - elapsed(clock)
      if (left <= 0) throw afterTooLate([token], afterMsMax)
      await orAfter(this.#next.promise, left)
    }
  }

  get ageMs(): number {
    if (this.#derivedAt === undefined) throw this.refusal()
    return elapsed(this.#options.clock) - this.#derivedAt
  }

  get logId(): string {
    return this.#log.id
  }

  refusal(): HenceError {
    const { derived, of } = this.far
    return retryError(
      'engine-standby',
      `This process follows the log, and ${this.#follows} is active. ${derived} of ${of} records are derived. ` +
        'Nothing was written: send the same request there.',
    )
  }

  /** Gives away what was derived, and answers nothing more. */
  async handOver(): Promise<Generation | undefined> {
    const { views } = this
    this.#derivedAt = this.#due = this.views = undefined
    this.#passed()
    await views?.close(this.refusal())
    const generation = this.#generation
    this.#generation = undefined
    return generation
  }

  /** @param saves save what was derived, so that a start goes on from there */
  async close(saves = true): Promise<void> {
    const generation = await this.handOver()
    if (generation === undefined) return
    try {
      if (!saves) return generation.state.abandon()
      await this.#checkpointer.saving
      await generation.checkpoint()
    } finally {
      await generation.close()
    }
  }

  #passed(): void {
    this.#next.resolve()
    this.#next = Promise.withResolvers()
  }

  /** Opens the live generation; undefined while the log has none. */
  async #open(): Promise<Generation | undefined> {
    const { codes, generations } = this.#host
    const { facts } = await findControls(this.#log)
    const live = liveOf(facts)
    const version = baseOf(facts, live) ?? versionOf(facts, live)
    if (version === undefined) return undefined
    await adoptState(generations, this.#host.storage, this.#options)
    return Generation.open(generations, lineageOf(facts, live), () => codes.programOf(version))
  }

  async #openViews(): Promise<Views | undefined> {
    const { views: modules } = this.#options
    if (modules === undefined) return undefined
    const isOne = this.#log.partitions === 1
    const views = new Views({
      ...this.#host,
      ...this.#options,
      live: async () => {
        await this.#changed
        return this.#generation!
      },
      frontier: () => (isOne ? Number.POSITIVE_INFINITY : this.#frontier),
      next: () => this.#next.promise,
      isBusy: () => false,
    })
    await views.use(await Promise.all(modules.map((each) => bundleApp(each))))
    return views
  }
}

class StandbyReads extends Reads<App> implements Standby<App> {
  readonly #warm: WarmStandby

  constructor(warm: WarmStandby) {
    super(warm)
    this.#warm = warm
  }

  get ageMs(): number {
    return this.#warm.ageMs
  }

  stats(): ReturnType<Standby<App>['stats']> {
    const { live, views, logId } = this.#warm
    const { program, number: generation, processor, reader } = live
    return {
      ...{ logId, version: program.version, generation, applied: [...processor.positions] },
      ...{ logTime: processor.time, pastSince: reader.past.since, views: views?.status(live) ?? [] },
    }
  }

  refusal(): HenceError {
    return this.#warm.refusal()
  }
}

/** The start meets a record at which processes have died, and derives it apart. */
const oneByOne = (run: RunFile, derivationMs: number): ReplayLimits => ({
  groupMs: () => derivationMs,
  apart: {
    from: [],
    recordMs: () => derivationMs,
    dueMs: () => derivationMs,
    begins(at, derivation) {
      if (derivation !== undefined || run.begins(at) <= deathsMax) return
      throw new Error(`Processes have died at record ${at.partition}:${at.offset}.`)
    },
    derived: () => undefined,
  },
})

/** Whether to try again: a standby outlives a database that is away for a while. */
function isUnreachable(error: unknown): error is HenceError {
  return error instanceof HenceError && error.advice === 'retry' && error.code !== 'log-taken'
}

function inUse({ who, address }: { who: string; address?: string | undefined }): HenceError {
  return retryError(
    'log-in-use',
    `The log is in use: ${who} is active${address ? `, at ${address}` : ''}. Start with \`wait\` to follow it ` +
      'and take over when it ends, or stop it first.',
  )
}

function notWarm(error: unknown): string {
  return (
    `This process follows the log, but cannot derive it at present: ${(error as Error).message} It can take ` +
    'over all the same; the start then takes longer.'
  )
}

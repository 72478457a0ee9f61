import { type Clock, pause } from '../clock.ts'
import { HenceError } from '../failure.ts'
import { Checkpointer } from '../generation/checkpointer.ts'
import type { Codes } from '../generation/codes.ts'
import { Generation, type GenerationHost } from '../generation/generation.ts'
import { baseOf, lineageOf, liveOf, versionOf } from '../log/control-history.ts'
import { findControls } from '../log/controls.ts'
import type { FileLog } from '../log/file-log/file-log.ts'
import { everyPartition, recordsBefore } from '../log/partitions.ts'
import { replay } from '../processor/replay.ts'
import type { Reporter } from '../report.ts'
import type { ActiveNote } from '../storage/active-note.ts'
import type { Storage } from '../storage/storage.ts'
import { type StartWatch, startPause } from './start-pause.ts'

/** How often a standby looks for new records, and who is active, in milliseconds. */
const lookMs = 50
/** The same while the carrier cannot be reached. */
const againMs = 1_000

interface StandbyOptions extends StartWatch {
  readonly clock: Clock
  readonly report: Reporter
  readonly checkpointRows: number
  /** Whether to wait until no other process is active. */
  readonly wait: boolean
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
 * derives what the active process appends, so that the start that follows has little left to derive. It
 * appends nothing before it has the log, and answers nothing.
 *
 * @throws HenceError `log-in-use` (retry) if another process is active and `wait` is false; `log-taken`
 *   (retry) if another one was first; the reason of the signal
 */
export async function becomeActive(host: StandbyHost, options: StandbyOptions): Promise<void> {
  const { log, note, storage } = host
  const { clock, report, wait, progress, signal = new AbortController().signal } = options
  const standby = new Standby(host, options)
  // A record at which the process before this one died is met by the start, which can derive it apart.
  let isWarm = storage.run?.died !== true
  let said: string | undefined
  let unreachable = false
  try {
    for (;;) {
      signal.throwIfAborted()
      try {
        const holder = await note.holder()
        if (holder === undefined) {
          await standby.close()
          await log.claim()
          return await note.begin()
        }
        // One that has died looks alike for a moment.
        if (!wait && holder.isAlive) throw inUse(holder)
        const { who, address } = holder
        if (said !== who)
          report({ level: 'info', code: 'log-followed', message: `${who} is active; this one follows.` })
        said = who
        await log.catchUp()
        progress?.({ ...(await standby.behind()), follows: address ?? who })
        unreachable = false
      } catch (error) {
        if (!wait || !isUnreachable(error)) throw error
        if (!unreachable) report({ level: 'warning', code: 'carrier-unreachable', message: error.message })
        unreachable = true
      }
      try {
        if (isWarm) await standby.derive()
      } catch (error) {
        isWarm = false
        report({ level: 'warning', code: 'standby-not-warm', message: notWarm(error) })
        await standby.close()
      }
      await pause(clock, unreachable ? againMs : lookMs, signal)
    }
  } finally {
    await standby.close()
  }
}

/** The live generation of a log that another process writes, derived as far as the local copy goes. */
class Standby {
  readonly #log: FileLog
  readonly #generations: GenerationHost
  readonly #codes: Codes
  readonly #options: StandbyOptions
  readonly #checkpointer: Checkpointer
  #generation: Generation | undefined

  constructor({ log, generations, codes }: StandbyHost, options: StandbyOptions) {
    this.#log = log
    this.#generations = generations
    this.#codes = codes
    this.#options = options
    this.#checkpointer = new Checkpointer(() => this.#generation!, {
      rows: options.checkpointRows,
      failed(error) {
        throw error
      },
    })
  }

  /** How many records of the copy are derived. */
  async behind(): Promise<{ readonly derived: number; readonly of: number }> {
    const ends = await Promise.all(everyPartition(this.#log).map((partition) => this.#log.end(partition)))
    const positions = this.#generation?.processor.positions
    return { derived: positions ? recordsBefore(positions) : 0, of: recordsBefore(ends) }
  }

  async derive(): Promise<void> {
    this.#generation ??= await this.#open()
    const generation = this.#generation
    if (generation === undefined) return
    const { derived, of } = await this.behind()
    if (derived === of) return
    const rest = startPause(of - derived, { clock: this.#options.clock, signal: this.#options.signal })
    const pausing = (applied: number) => rest(applied) ?? this.#checkpointer.saveIfDue()
    await replay(this.#log, generation, { grows: true, pause: pausing })
    // After a promotion another generation is live.
    if (liveOf(generation.processor.history) !== generation.number) await this.close()
  }

  /** Saves what was derived, so that a start goes on from there. */
  async close(): Promise<void> {
    const generation = this.#generation
    this.#generation = undefined
    if (generation === undefined) return
    try {
      await this.#checkpointer.saving
      await generation.checkpoint()
    } finally {
      await generation.close()
    }
  }

  /** Opens the live generation; undefined while the log has none. */
  async #open(): Promise<Generation | undefined> {
    const { facts } = await findControls(
      this.#log,
      everyPartition(this.#log).map(() => 0),
    )
    const live = liveOf(facts)
    const version = baseOf(facts, live) ?? versionOf(facts, live)
    if (version === undefined) return undefined
    return Generation.open(this.#generations, lineageOf(facts, live), () => this.#codes.programOf(version))
  }
}

/** Whether to try again: a standby outlives a database that is away for a while. */
function isUnreachable(error: unknown): error is HenceError {
  return error instanceof HenceError && error.advice === 'retry' && error.code !== 'log-taken'
}

function inUse({ who, address }: { who: string; address?: string | undefined }): HenceError {
  return new HenceError(
    'log-in-use',
    'retry',
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

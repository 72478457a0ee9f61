import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { backgroundPause, type Clock, isWithin } from '../clock.ts'
import { HenceError } from '../failure.ts'
import { reasonText } from '../file-failure.ts'
import type { Log } from '../log/log.ts'
import type { Reporter } from '../report.ts'

export interface ScrubberOptions {
  readonly log: Log
  /** The folder in which `scrub.json` remembers the last full pass; undefined: in memory. */
  readonly folder: string | undefined
  readonly clock: Clock
  readonly report: Reporter
  /** How fast it reads at most, to leave the disk to others. Default 4 MiB. */
  readonly bytesPerSecond?: number
  /** The time from the end of a pass to the beginning of the next, in milliseconds. Default an hour. */
  readonly restMs?: number
  /**
   * Derives the log again and compares, after a pass and at most once a day; the result is a line about what
   * was found equal, and undefined if there was nothing to compare.
   */
  readonly rehearse?: ((signal: AbortSignal) => Promise<string | undefined>) | undefined
}

/** The time between two rehearsals, and from a start to the first, in milliseconds. */
const rehearsalEveryMs = 86_400_000
const rehearsalFirstMs = 60_000

/**
 * Reads the whole log, slowly, again and again. A disk can lose data that nobody reads, and the loss should
 * be found while copies still exist. Reading checks each batch: its checksums and the hash chain.
 */
export class Scrubber {
  readonly #options: Required<ScrubberOptions>
  readonly #stopping = new AbortController()
  readonly #done: Promise<void>
  /** When the last full pass without a finding ended, in milliseconds since 1970; undefined before the first. */
  passedAt: number | undefined
  /** When the last rehearsal that found no difference ended; otherwise like `passedAt`. */
  rehearsedAt: number | undefined

  static async open(options: ScrubberOptions): Promise<Scrubber> {
    const { folder = '', clock } = options
    const timeIn = async (name: string, field: RegExp) => {
      const at = field.exec(await readFile(join(folder, name), 'utf8').catch(() => ''))?.[1]
      return isWithin(clock, Number.POSITIVE_INFINITY, Number(at)) ? Number(at) : undefined
    }
    const passedAt = await timeIn(passName, /^\{"passedAt":(\d{1,16})\}$/)
    return new Scrubber(options, passedAt, await timeIn(rehearsalName, /^\{.*?"time":(\d{1,16}),/))
  }

  private constructor(
    options: ScrubberOptions,
    passedAt: number | undefined,
    rehearsedAt: number | undefined,
  ) {
    this.#options = { bytesPerSecond: 4 * 1024 * 1024, restMs: 3_600_000, rehearse: undefined, ...options }
    this.passedAt = passedAt
    this.rehearsedAt = rehearsedAt
    this.#done = this.#run()
  }

  async close(): Promise<void> {
    this.#stopping.abort()
    await this.#done
  }

  async #run(): Promise<void> {
    const { clock, restMs, report } = this.#options
    const openedAt = clock.now()
    let rest = this.passedAt === undefined ? 0 : this.passedAt + restMs - clock.now()
    for (;;) {
      await this.#pause(Math.min(restMs, Math.max(0, rest)))
      if (this.#isStopping) return
      rest = restMs
      try {
        await this.#pass()
        if (this.#isStopping) return
        this.passedAt = clock.now()
        await this.#write(passName, JSON.stringify({ passedAt: this.passedAt }))
        await this.#rehearse(openedAt)
      } catch (error) {
        if (this.#isStopping) return
        // For as long as it lasts, the age of the last pass shows it too.
        const { code, message } = error instanceof HenceError ? error : failed(error)
        const isTransient = error instanceof HenceError && error.advice === 'retry'
        report({ level: isTransient ? 'warning' : 'alarm', code, message })
      }
    }
  }

  async #pass(): Promise<void> {
    const { log, bytesPerSecond, clock } = this.#options
    let before = clock.now()
    /** How far the reading is ahead of its pace, in milliseconds. */
    let ahead = 0
    for (let partition = 0; partition < log.partitions; partition++) {
      for await (const { records } of log.read(partition, 0)) {
        for (const { length } of records) ahead += (length / bytesPerSecond) * 1_000
        const now = clock.now()
        ahead = Math.max(0, ahead - Math.max(0, now - before))
        before = now
        if (ahead > pauseMsMin) await this.#pause(ahead)
        if (this.#isStopping) return
      }
    }
  }

  get #isStopping(): boolean {
    return this.#stopping.signal.aborted
  }

  async #rehearse(openedAt: number): Promise<void> {
    const { clock, rehearse } = this.#options
    if (rehearse === undefined || isWithin(clock, rehearsalEveryMs, this.rehearsedAt)) return
    await this.#pause(openedAt + rehearsalFirstMs - clock.now())
    const line = this.#isStopping ? undefined : await rehearse(this.#stopping.signal)
    if (line === undefined) return
    await this.#write(rehearsalName, line)
    this.rehearsedAt = clock.now()
  }

  async #write(name: string, text: string): Promise<void> {
    const { folder } = this.#options
    if (folder === undefined) return
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const path = join(folder, name)
    await writeFile(`${path}.unfinished`, text, { mode: 0o600 })
    await rename(`${path}.unfinished`, path)
  }

  #pause(ms: number): Promise<void> {
    return backgroundPause(this.#options.clock, ms, this.#stopping.signal)
  }
}

/** Shorter pauses are not worth their cost. */
const pauseMsMin = 20

const passName = 'scrub.json'
export const rehearsalName = 'rehearsal.json'

function failed(cause: unknown): { readonly code: string; readonly message: string } {
  return { code: 'scrub-failed', message: `The log could not be read again: ${reasonText(cause)}` }
}

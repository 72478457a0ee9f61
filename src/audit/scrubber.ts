import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { Clock } from '../clock.ts'
import { HenceError } from '../failure.ts'
import type { Log } from '../log/log.ts'
import type { Reporter } from '../report.ts'

export interface ScrubberOptions {
  readonly log: Log
  /** The folder that it remembers its last full pass in, as `scrub.json`; undefined: in memory. */
  readonly folder: string | undefined
  readonly clock: Clock
  readonly report: Reporter
  /** How much it reads, so that it is not in the way of others. Default 4 MiB. */
  readonly bytesPerSecond?: number
  /** A pass begins so long after the last one ended, in milliseconds. Default an hour. */
  readonly restMs?: number
}

/**
 * Reads all of the log, slowly and for ever: a disk can lose what nobody reads, and it is better to hear of it while
 * copies are still there. Batches are checked by whoever reads them, with checksums and the chain.
 */
export class Scrubber {
  readonly #options: Required<ScrubberOptions>
  readonly #stopping = new AbortController()
  readonly #done: Promise<void>
  #passedAt: number | undefined

  static async open(options: ScrubberOptions): Promise<Scrubber> {
    const text = await readFile(fileIn(options.folder), 'utf8').catch(() => '')
    const at = /^\{"passedAt":(\d{1,16})\}$/.exec(text)?.[1]
    return new Scrubber(options, at === undefined ? undefined : Number(at))
  }

  private constructor(options: ScrubberOptions, passedAt: number | undefined) {
    this.#options = { bytesPerSecond: 4 * 1024 * 1024, restMs: 3_600_000, ...options }
    this.#passedAt = passedAt
    this.#done = this.#run().catch((error) => {
      if (!this.#stopping.signal.aborted) throw error
    })
  }

  /** When the last full pass that found nothing wrong ended, in milliseconds since 1970; undefined before the first. */
  get passedAt(): number | undefined {
    return this.#passedAt
  }

  async close(): Promise<void> {
    this.#stopping.abort()
    await this.#done
  }

  async #run(): Promise<void> {
    const { clock, restMs, report } = this.#options
    let rest = this.#passedAt === undefined ? 0 : this.#passedAt + restMs - clock.now()
    for (;;) {
      await this.#pause(Math.min(restMs, Math.max(0, rest)))
      rest = restMs
      try {
        await this.#pass()
        await this.#passed(clock.now())
      } catch (error) {
        this.#stopping.signal.throwIfAborted()
        // The age of the last pass tells it too, for as long as it is so.
        const { code, message } = error instanceof HenceError ? error : failed(error)
        const passes = error instanceof HenceError && error.advice === 'retry'
        report({ level: passes ? 'warning' : 'alarm', code, message })
      }
    }
  }

  async #pass(): Promise<void> {
    const { log, bytesPerSecond } = this.#options
    const startedAt = performance.now()
    let bytes = 0
    for (let partition = 0; partition < log.partitions; partition++) {
      for await (const { records } of log.read(partition, 0)) {
        for (const record of records) bytes += record.length
        const early = startedAt + (bytes / bytesPerSecond) * 1_000 - performance.now()
        if (early > pauseMsMin) await this.#pause(early)
        this.#stopping.signal.throwIfAborted()
      }
    }
  }

  async #passed(at: number): Promise<void> {
    this.#passedAt = at
    const { folder } = this.#options
    if (folder === undefined) return
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const unfinished = `${fileIn(folder)}.unfinished`
    await writeFile(unfinished, JSON.stringify({ passedAt: at }))
    await rename(unfinished, fileIn(folder))
  }

  async #pause(ms: number): Promise<void> {
    await pause(ms, undefined, { signal: this.#stopping.signal, ref: false })
  }
}

/** Pauses of a few milliseconds are as good as none, and cost more. */
const pauseMsMin = 20

const fileIn = (folder = '') => join(folder, 'scrub.json')

function failed(cause: unknown): { readonly code: string; readonly message: string } {
  return { code: 'scrub-failed', message: `The log could not be read again: ${(cause as Error).message}` }
}

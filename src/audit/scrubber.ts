import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { backgroundPause, type Clock, isWithin } from '../clock.ts'
import { HenceError } from '../failure.ts'
import { reasonText } from '../file-failure.ts'
import type { Log } from '../log/log.ts'
import type { Reporter } from '../report.ts'
import { replaceFile } from './head-file.ts'

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

/** A scrubber that runs. */
export type Scrubber = Awaited<ReturnType<typeof openScrubber>>

/**
 * Reads the whole log, slowly, again and again. A disk can lose data that nobody reads, and the loss should
 * be found while copies still exist. Reading checks each batch: its checksums and the hash chain.
 */
export async function openScrubber(options: ScrubberOptions) {
  const { log, folder, clock, report, rehearse } = options
  const { bytesPerSecond = 4 * 1024 * 1024, restMs = 3_600_000 } = options
  const stopping = new AbortController()
  const timeIn = async (name: string, field: RegExp) => {
    const at = field.exec(await readFile(join(folder ?? '', name), 'utf8').catch(() => ''))?.[1]
    return isWithin(clock, Number.POSITIVE_INFINITY, Number(at)) ? Number(at) : undefined
  }
  const scrubber = {
    /** When the last full pass without a finding ended, in milliseconds since 1970; undefined before the first. */
    passedAt: await timeIn(passName, /^\{"passedAt":(\d{1,16})\}$/),
    /** When the last rehearsal that found no difference ended; otherwise like `passedAt`. */
    rehearsedAt: await timeIn(rehearsalName, /^\{.*?"time":(\d{1,16}),/),
    async close(): Promise<void> {
      stopping.abort()
      await done
    },
  }
  const isStopping = () => stopping.signal.aborted
  const wait = (ms: number) => backgroundPause(clock, ms, stopping.signal)
  const done = run()
  return scrubber

  async function run(): Promise<void> {
    const openedAt = clock.now()
    let rest = scrubber.passedAt === undefined ? 0 : scrubber.passedAt + restMs - clock.now()
    for (;;) {
      await wait(Math.min(restMs, Math.max(0, rest)))
      if (isStopping()) return
      rest = restMs
      try {
        await pass()
        if (isStopping()) return
        scrubber.passedAt = clock.now()
        await write(passName, JSON.stringify({ passedAt: scrubber.passedAt }))
        await rehearseIfDue(openedAt)
      } catch (error) {
        if (isStopping()) return
        // For as long as it lasts, the age of the last pass shows it too.
        const { code, message } = error instanceof HenceError ? error : failed(error)
        const isTransient = error instanceof HenceError && error.advice === 'retry'
        report({ level: isTransient ? 'warning' : 'alarm', code, message })
      }
    }
  }

  async function pass(): Promise<void> {
    let before = clock.now()
    /** How far the reading is ahead of its pace, in milliseconds. */
    let ahead = 0
    for (let partition = 0; partition < log.partitions; partition++) {
      for await (const { records } of log.read(partition, 0)) {
        for (const { length } of records) ahead += (length / bytesPerSecond) * 1_000
        const now = clock.now()
        ahead = Math.max(0, ahead - Math.max(0, now - before))
        before = now
        if (ahead > pauseMsMin) await wait(ahead)
        if (isStopping()) return
      }
    }
  }

  async function rehearseIfDue(openedAt: number): Promise<void> {
    if (rehearse === undefined || isWithin(clock, rehearsalEveryMs, scrubber.rehearsedAt)) return
    await wait(openedAt + rehearsalFirstMs - clock.now())
    const line = isStopping() ? undefined : await rehearse(stopping.signal)
    if (line === undefined) return
    await write(rehearsalName, line)
    scrubber.rehearsedAt = clock.now()
  }

  async function write(name: string, text: string): Promise<void> {
    if (folder === undefined) return
    await mkdir(folder, { recursive: true, mode: 0o700 })
    await replaceFile(join(folder, name), text)
  }
}

/** Shorter pauses are not worth their cost. */
const pauseMsMin = 20

const passName = 'scrub.json'
export const rehearsalName = 'rehearsal.json'

function failed(cause: unknown): { readonly code: string; readonly message: string } {
  return { code: 'scrub-failed', message: `The log could not be read again: ${reasonText(cause)}` }
}

import type { LongWork, OfflineProgress } from '../../offline/index.ts'
import { visible } from './output.ts'
import { stopSignal } from './stop-signal.ts'

const everyMs = 100

/** Shows how far long work is, on one line of a terminal that it writes over. Elsewhere it shows nothing. */
export class Progress {
  readonly #isShown = process.stderr.isTTY
  #shownAt = 0

  show(text: () => string): void {
    const now = performance.now()
    if (!this.#isShown || now - this.#shownAt < everyMs) return
    this.#shownAt = now
    process.stderr.write(`\r\x1b[K${visible(text().slice(0, process.stderr.columns))}`)
  }

  end(): void {
    if (this.#isShown && this.#shownAt > 0) process.stderr.write('\r\x1b[K')
  }
}

/** Thrown by `withProgress` when a signal has stopped the work. */
export class Stopped extends Error {}

/** Runs offline work with a line of progress. The first SIGINT or SIGTERM stops it. */
export async function withProgress<T>(run: (work: LongWork) => Promise<T>): Promise<T> {
  const { signal } = stopSignal()
  const line = new Progress()
  try {
    return await run({ signal, progress: (progress) => line.show(() => progressText(progress)) })
  } catch (error) {
    throw signal.aborted ? new Stopped() : error
  } finally {
    line.end()
  }
}

const verbs = { copy: 'copied', read: 'read', verify: 'checked', derive: 'derived', compare: 'compared' }

/** For example `checked 1200 of 5000 records (24 %)`. */
export function progressText({ step, done, total, unit }: OfflineProgress): string {
  const scale = unit === 'bytes' ? 1024 * 1024 : 1
  const name = unit === 'bytes' ? 'MiB' : unit
  const [now, end] = [done, total ?? 0].map((amount) => Math.floor(amount / scale))
  if (total === undefined || total === 0) return `${verbs[step]} ${now} ${name}`
  const percent = Math.min(100, Math.floor((done / total) * 100))
  return `${verbs[step]} ${now} of ${end} ${name} (${percent} %)`
}

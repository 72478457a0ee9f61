/**
 * Sends payments at 1,024 in flight and reports its progress. It ends after a number of them, or goes on
 * until it is killed if that number is 0.
 */
import { createEngine } from 'hence'
import type app from './app.ts'
import { anonymousBytes } from './memory.ts'
import { reportToParent } from './parent.ts'
import { payment } from './payment.ts'
import { processorMicros } from './processor.ts'

export interface Progress {
  /** How many requests have been answered. */
  readonly answered: number
  /** Since the first of them was sent. */
  readonly seconds: number
  /** Processor time since then. */
  readonly processorMicros: number
  readonly residentBytes: number
  /** The part of it that is not backed by files; undefined on systems other than Linux. */
  readonly anonymousBytes: number | undefined
}

const [data, countText = '0', everyText = '20000'] = process.argv.slice(2)
const count = Number(countText) || Number.POSITIVE_INFINITY
const every = Number(everyText)
const engine = await createEngine<typeof app>({ app: import.meta.resolve('./app.ts'), data: data! })
const from = engine.stats().applied[0]!
const processorBefore = processorMicros()
const startedAt = performance.now()
let sent = 0
let answered = 0

async function sendAll(): Promise<void> {
  while (sent < count) {
    const { requestId, input } = payment(from + sent++)
    await engine.submit('pay', input, { requestId })
    if (++answered % every === 0) report()
  }
}

function report(): void {
  const progress: Progress = {
    answered,
    seconds: (performance.now() - startedAt) / 1000,
    processorMicros: processorMicros() - processorBefore,
    residentBytes: process.memoryUsage.rss(),
    anonymousBytes: anonymousBytes(),
  }
  reportToParent(progress)
}

await Promise.all(Array.from({ length: 1_024 }, sendAll))
report()
await engine.close()

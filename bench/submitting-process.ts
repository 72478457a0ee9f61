/**
 * Sends payments at 1,024 in flight and tells how far it is. Ends by itself after a number of them; without
 * one it goes on until it is killed.
 */
import { readFileSync } from 'node:fs'
import { createEngine } from 'hence'
import app from './app.ts'
import { tellParent } from './parent.ts'
import { payment } from './payment.ts'

export interface Progress {
  /** How many requests this process has had answered. */
  readonly answered: number
  /** Since the first of them was sent. */
  readonly seconds: number
  readonly residentBytes: number
  /** The part of it that is no file of the disk's; undefined where the system does not tell. */
  readonly anonymousBytes: number | undefined
}

const [data, countText] = process.argv.slice(2)
const count = countText === undefined ? Number.POSITIVE_INFINITY : Number(countText)
const engine = await createEngine({ app, module: import.meta.resolve('./app.ts'), data: data! })
const from = engine.stats().applied[0]!
const startedAt = performance.now()
let sent = 0
let answered = 0

async function sendAll(): Promise<void> {
  while (sent < count) {
    const { requestId, input } = payment(from + sent++)
    await engine.submit('pay', input, { requestId })
    if (++answered % 20_000 === 0) tell()
  }
}

function tell(): void {
  const progress: Progress = {
    answered,
    seconds: (performance.now() - startedAt) / 1000,
    residentBytes: process.memoryUsage.rss(),
    anonymousBytes: anonymousBytes(),
  }
  tellParent(progress)
}

function anonymousBytes(): number | undefined {
  if (process.platform !== 'linux') return undefined
  const kibibytes = /^RssAnon:\s*(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
  return kibibytes === undefined ? undefined : Number(kibibytes) * 1024
}

await Promise.all(Array.from({ length: 1_024 }, sendAll))
tell()
await engine.close()

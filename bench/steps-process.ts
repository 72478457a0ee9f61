/** One message with thousands of consequences: how long its steps keep the thread, and what others wait. */
import { createEngine } from 'hence'
import type * as made from '../test/apps/crowd.ts'
import { appsOf } from '../test/apps.ts'
import { drive } from './drive.ts'
import { reportToParent } from './parent.ts'
import { newId } from './payment.ts'
import { threadMicros } from './processor.ts'

export interface Crowd {
  readonly what: string
  /** The most processor time of the thread in one turn of the event loop. */
  readonly longestMs: number
  readonly seconds: number
  /** The latencies of requests of other keys meanwhile, one after the other. */
  readonly others: readonly number[]
}

const [data, scale] = process.argv.slice(2) as [string, string]
const { crowd } = appsOf<typeof made>(import.meta.resolve('../test/apps/crowd.ts'))
/** How far the clock is ahead: timers are set for then, and become due at once. */
let ahead = 0
const clock = { now: () => Date.now() + ahead }
const engine = await createEngine({ app: await crowd({ limit: 100_000 }), data, clock })
const send = async (type: 'book' | 'limit' | 'settle' | 'wake' | 'look', input: object) => {
  const { status } = await engine.submit(type, input as never, { requestId: newId(clock.now()) })
  if (status !== 'accepted') throw new Error(`${type} was ${status}.`)
}
const many = (count: number) => Math.ceil(count * Number(scale))
const all = (count: number, type: Parameters<typeof send>[0], input: (n: number) => object) =>
  drive(1_024, count, (n) => send(type, input(n)))

const crowds: Crowd[] = []
const claims = many(8_000)
await all(claims, 'book', (n) => ({ guest: `fall${n}`, show: 'a' }))
await measure(`a limit falls to 0 under ${numeral(claims)} claims`, () =>
  send('limit', { show: 'a', limit: 0 }),
)
const timers = many(30_000)
const at = clock.now() + 3_600_000
await all(timers, 'wake', (n) => ({ guest: `wake${n}`, at, bells: 1 }))
await measure(`${numeral(timers)} timers are due at once`, () => {
  ahead += 3_600_000
  return send('look', { guest: 'x' })
})
const noShows = many(12_000)
await all(noShows, 'book', (n) => ({ guest: `gone${n}`, show: 'b' }))
await measure(`${numeral(noShows)} no-shows are settled`, () => send('settle', { show: 'b' }))
await engine.close()
reportToParent({ crowds })

async function measure(what: string, act: () => Promise<void>): Promise<void> {
  await engine.idle()
  let longest = 0
  let before = threadMicros()
  let isOver = false
  const turn = () => {
    const now = threadMicros()
    longest = Math.max(longest, now - before)
    before = now
    if (!isOver) setImmediate(turn)
  }
  setImmediate(turn)
  const startedAt = performance.now()
  const others: number[] = []
  const acting = act()
    .then(() => engine.idle())
    .then(() => {
      isOver = true
    })
  while (!isOver || others.length === 0) {
    const sentAt = performance.now()
    await send('look', { guest: `other${others.length % 100}` })
    others.push(performance.now() - sentAt)
  }
  await acting
  crowds.push({ what, longestMs: longest / 1_000, seconds: (performance.now() - startedAt) / 1_000, others })
}

function numeral(count: number): string {
  return count.toLocaleString('en-US')
}

import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { partitionOf } from '../../src/log/partitions.ts'
import { crashAt } from '../crash-points.ts'
import type { Task, Told, Waiting } from './cut-process.ts'

// Claims that wait for a judge whose partition cannot be written stand on disk: the heap of the process could
// not hold them. It is killed meanwhile, and started again; then the line is mended.

const count = Number(process.env['HENCE_CUT_TOURS'] ?? 300)
const partitions = 3
const judge = 0
const shows: string[] = []
for (let n = 0; shows.length < 100; n++)
  if (partitionOf(`show ${n}`, partitions) === judge) shows.push(`show ${n}`)
/** So many tours are sold that are not there. */
const excess = 3
const queueBytesMax = 2 * 1024 * 1024

type Booked = Extract<Told, { kind: 'booked' }>

class Booking {
  readonly process: ChildProcess
  readonly told: Told[] = []
  #looks: (() => void)[] = []

  constructor(directory: string, from: number, to: number) {
    const main = fileURLToPath(import.meta.resolve('./cut-process.ts'))
    this.process = fork(main, { execArgv: ['-C', 'hence-source', '--max-old-space-size=110'] })
    this.process.on('message', (told: Told) => {
      this.told.push(told)
      this.#look()
    })
    this.process.on('exit', () => this.#look())
    const limit = count - excess
    this.process.send({ directory, shows, judge, limit, from, to, queueBytesMax } satisfies Task)
  }

  async until<Kind extends Told['kind']>(
    kind: Kind,
    fits: (told: Extract<Told, { kind: Kind }>) => boolean = () => true,
  ): Promise<Extract<Told, { kind: Kind }>> {
    for (;;) {
      const found = this.told.find(
        (told): told is Extract<Told, { kind: Kind }> => told.kind === kind && fits(told as never),
      )
      if (found) return found
      assert.equal(this.process.exitCode ?? this.process.signalCode, null, 'it lives')
      await new Promise<void>((resolve) => this.#looks.push(resolve))
    }
  }

  async end(signal?: NodeJS.Signals): Promise<void> {
    const exited = once(this.process, 'exit')
    if (signal) this.process.kill(signal)
    const [code] = await exited
    if (!signal) assert.equal(code, 0)
  }

  #look(): void {
    for (const look of this.#looks.splice(0)) look()
  }
}

test(crashAt('judge cut off', `${100 * count} claims wait on disk, and each is judged once`), {
  timeout: Math.max(600_000, 1_000 * count),
}, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'hence-cut-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  const begun: Booking[] = []
  t.after(() => {
    for (const each of begun) each.process.kill('SIGKILL')
  })
  const booking = (from: number, to: number) => {
    begun.push(new Booking(directory, from, to))
    return begun.at(-1)!
  }
  const seen: Waiting[] = []
  const first = booking(0, count)
  const { count: killedAt } = await first.until('booked', (told) => told.count >= count / 2)
  await first.end('SIGKILL')
  seen.push(...first.told.map((told) => (told as Booked).at))

  // Those that were under way are sent again.
  const second = booking(Math.max(0, killedAt - 50), count)
  const { at: before } = await second.until('closed')
  seen.push(...second.told.filter((told): told is Booked => told.kind === 'booked').map(({ at }) => at))
  await second.end()
  assert.ok(before.waitingBytes > 100 * count * 150, `${before.waitingBytes}`)
  assert.ok(before.unwrittenMs > 1_000, 'the oldest one waits since before the kill')
  for (const { heldBytes } of seen) assert.ok(heldBytes < queueBytesMax, `${heldBytes}`)
  t.diagnostic(
    `heap at most ${Math.max(...seen.map(({ heapBytes }) => heapBytes))} bytes, ${before.waitingBytes} waited`,
  )

  const third = booking(count, count)
  const { denied, digest } = await third.until('judged')
  const { at: after } = await third.until('closed')
  await third.end()
  assert.deepEqual([after.waitingBytes, after.heldBytes], [0, 0])
  assert.equal(denied.length, count)
  // A tour that is compensated gives all its claims back, and so no show has too many any more. Claims of two
  // partitions may come to another show in another order, and its first excess then takes another tour.
  const times = denied.map(([, each]) => each.length).filter((length) => length > 0)
  assert.ok(times.length >= excess && times.length <= 2 * excess, `${times.length} tours gave way`)
  assert.ok(times.every((length) => length === 1))

  // The log alone says the same.
  await rm(join(directory, 'state'), { recursive: true })
  const replay = booking(count, count)
  assert.equal((await replay.until('judged')).digest, digest)
  await replay.end()
})

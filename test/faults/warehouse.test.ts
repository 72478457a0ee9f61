import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { crashAt } from '../crash-points.ts'
import { randomFrom } from '../random.ts'
import type { FromWarehouse, ToWarehouse } from './warehouse-process.ts'

// Three mugs are there, five are ordered, and the forklift damages one. More is ordered from the supplier,
// the customers get letters about the delay with a discount, goods arrive, and who waits is served in order;
// with SIGKILL at random moments, for many products at once.

const kills = Math.min(10, Number(process.env['HENCE_KILLS'] ?? 4))
const seed = Number(process.env['HENCE_SEED'] ?? randomInt(2 ** 31))
const skus = Array.from({ length: 12 }, (_, i) => `mug${i}`)

type Wish = Extract<ToWarehouse, { kind: 'submit' }>
const orderOf = (sku: string, n: number) => `${sku}-o${n}`
const goods = (units: number) => (sku: string) => ({ type: 'receive-goods', input: { sku, units } })
const order = (n: number) => (sku: string) => ({
  type: 'place-order',
  input: { order: orderOf(sku, n), sku, units: 1, wait: true },
})
const ship = (n: number) => (sku: string) => ({ type: 'ship-order', input: { order: orderOf(sku, n) } })
const forklift = (sku: string) => ({ type: 'write-off', input: { sku, units: 1, reason: 'forklift' } })

/** What happens to each product, and the states of its five orders afterwards. */
const story = [
  [goods(3), ''],
  ...[1, 2, 3, 4, 5].map((n) => [
    order(n),
    ['placed', 'placed', 'placed', 'waiting', 'waiting'].slice(0, n).join(),
  ]),
  [forklift, 'placed,placed,waiting,waiting,waiting'],
  [ship(1), 'shipped,placed,waiting,waiting,waiting'],
  [goods(2), 'shipped,placed,placed,placed,waiting'],
  [ship(4), 'shipped,placed,placed,shipped,waiting'],
  [goods(1), 'shipped,placed,placed,shipped,placed'],
] as readonly (readonly [(sku: string) => Omit<Wish, 'kind' | 'id'>, string])[]

for (const [mode, partitions] of [
  ['strict', 1],
  ['strict', 2],
  ['strict', 8],
  ['loose', 1],
  ['loose', 8],
] as const) {
  const name = crashAt(
    ['requests in flight', 'delivery of effects'],
    `${mode} warehouse on ${partitions} partitions, ${kills} kills: who waits is served in order (HENCE_SEED=${seed})`,
  )
  test(name, { timeout: 600_000 }, async (t) => {
    const random = randomFrom(seed + partitions)
    const home = await mkdtemp(join(tmpdir(), 'hence-warehouse-'))
    const app = mode === 'strict' ? 'strict.ts' : 'warehouse.ts'
    const module = fileURLToPath(import.meta.resolve(`../../examples/warehouse/${app}`))
    const sent = join(home, 'sent')
    let child: ChildProcess | undefined
    let isOver = false
    t.after(async () => {
      isOver = true
      child?.kill('SIGKILL')
      await rm(home, { recursive: true })
    })

    /** Requests and looks that wait for an answer; all are sent again to the next process. */
    const open = new Map<string, { message: ToWarehouse; answer: (answer: FromWarehouse) => void }>()
    let killed = 0
    let killIn = 0
    let broken: Error | undefined
    const countDown = () => {
      if (killed >= kills || --killIn > 0) return
      killed++
      child!.kill('SIGKILL')
    }
    const start = () => {
      killIn = 1 + Math.floor(random() * (200 / kills))
      const path = fileURLToPath(import.meta.resolve('./warehouse-process.ts'))
      const started = fork(path, [join(home, 'data'), `${partitions}`, module, sent], {
        execArgv: ['-C', 'hence-source'],
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      })
      child = started
      started.on('message', (message: FromWarehouse) => {
        if (message.kind === 'error') broken = new Error(`${message.id}: ${message.text}`)
        if (message.kind === 'ready') for (const { message } of open.values()) started.send(message)
        else {
          const id = 'id' in message ? message.id : 'look'
          open.get(id)?.answer(message)
          open.delete(id)
        }
        countDown()
      })
      started.on('exit', (_, signal) => signal === 'SIGKILL' && !isOver && start())
    }
    const ask = (id: string, message: ToWarehouse) =>
      new Promise<FromWarehouse>((answer) => {
        open.set(id, { message, answer })
        if (child!.connected) child!.send(message, () => {})
        // So a process is also killed between a request and its reply.
        if (random() < 0.3) countDown()
      })
    const look = async () => {
      const seen = await ask('look', { kind: 'look' })
      assert.ok(seen.kind === 'seen')
      return seen
    }

    start()
    await once(child!, 'message')
    for (const [step, [wish, expected]] of story.entries()) {
      const replies = await Promise.all(
        skus.map((sku) => {
          const id = `${step}-${sku}`
          return ask(id, { kind: 'submit', id, ...wish(sku) } as Wish)
        }),
      )
      for (const reply of replies)
        assert.ok(reply.kind === 'reply' && reply.status === 'accepted', `${reply}`)
      const { states } = await look()
      for (const sku of skus) {
        const now = [1, 2, 3, 4, 5].flatMap((n) => states[orderOf(sku, n)] ?? []).join()
        assert.equal(now, expected, `${sku} after step ${step}`)
      }
    }
    const { digest } = await look()
    assert.equal(killed, kills, 'the process was not killed as often as planned')

    const close = async () => {
      const ended = once(child!, 'exit')
      child!.send({ kind: 'close' } satisfies ToWarehouse)
      assert.deepEqual(await ended, [0, null])
    }
    await close()
    rmSync(join(home, 'data', 'state'), { recursive: true })
    start()
    await once(child!, 'message')
    assert.equal((await look()).digest, digest, 'a derivation from offset 0 has another digest')
    await close()
    if (broken) throw broken

    // A letter may go out again after a crash, with the same id.
    const letters = [...new Set(readFileSync(sent, 'utf8').trimEnd().split('\n'))]
    const expected = skus.flatMap((sku) => [
      ...[3, 4, 5].map((n) => `delay ${orderOf(sku, n)} 10`),
      ...[3, 4, 5].map(() => `supply ${sku} 1`),
    ])
    assert.deepEqual(letters.map((line) => line.slice(line.indexOf(' ') + 1)).sort(), expected.sort())
  })
}

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEngine, HenceError, type KeyPart, type Reply } from 'hence'
import { type Books, booksOf } from '../../examples/transfers/books.ts'
import type * as made from '../../examples/transfers/transfers.ts'
import transfers from '../../examples/transfers/transfers.ts'
import type { MemoryStore } from '../../src/state/memory-store.ts'
import { State } from '../../src/state/state.ts'
import { TableState } from '../../src/state/table.ts'
import { appsOf } from '../apps.ts'
import { crashAt } from '../crash-points.ts'
import { eachSeed, replayKept, runsOf } from '../kept-failures.ts'
import { randomFrom } from '../random.ts'
import { CrashingStorage } from './crashing-storage.ts'

const bank = await appsOf<typeof made>(import.meta.resolve('../../examples/transfers/transfers.ts')).default()

// Money moves between accounts on 16 partitions while the process crashes, appends fail or succeed
// unacknowledged, requests are sent twice, and partitions are slow by turns. The worst result would be a cent
// lost or made; then an account below zero; then a reply that changes.

const { runs, isSample } = runsOf(30)
const partitions = 16
const accountCount = 24
const centsEach = 1_000

/** The three tables at one moment. */
class Picture {
  readonly #tables = new Map(
    ['accounts', 'transfers', 'receipts'].map((name) => [name, new Map<string, Row>()]),
  )

  set(table: string, key: readonly KeyPart[], value: unknown): void {
    const rows = this.#tables.get(table)!
    if (value === undefined) rows.delete(key.join('\0'))
    else rows.set(key.join('\0'), { key, value })
  }

  get accountCount(): number {
    return this.#tables.get('accounts')!.size
  }

  get books(): Books {
    const rows = (name: string) => [...this.#tables.get(name)!.values()] as never
    return booksOf({ accounts: rows('accounts'), transfers: rows('transfers'), receipts: rows('receipts') })
  }
}
interface Row {
  readonly key: readonly KeyPart[]
  readonly value: unknown
}

function pictureOf(store: MemoryStore): Picture {
  const picture = new Picture()
  const state = new State(store)
  const codec = { encode: JSON.stringify, decode: JSON.parse }
  for (const table of transfers.tables.values()) {
    for (const { key, value } of new TableState(state, table, codec).scan({}))
      picture.set(table.name, key, value)
  }
  return picture
}

async function live(seed: number) {
  const random = randomFrom(seed)
  const below = (n: number) => Math.floor(random() * n)
  const counts = { crashes: 0, checkpoints: 0, moments: 0, underWay: 0, again: 0, refused: 0 }
  const check = (picture: Picture, where: string) => {
    const { inAccounts, underWay, byDoneOnly, lowest } = picture.books
    assert.ok(lowest >= 0, `${where}: an account has ${lowest}`)
    const total = picture.accountCount * centsEach
    assert.equal(inAccounts + underWay, total, `${where}: wrong sum in accounts and under way`)
    assert.equal(byDoneOnly, total, `${where}: wrong sum for a reader of finished transfers`)
    if (underWay > 0) counts.underWay++
  }
  const broken: unknown[] = []
  const clock = { now: () => 1_790_000_000_000 + below(1_000), alarm: () => () => {}, elapsed: () => 0 }
  const storage = new CrashingStorage({
    partitions,
    clock,
    id: seed.toString(16).padStart(32, '0'),
    random,
    failing: random() < 0.5 ? 0.02 : 0,
    saved(store) {
      counts.checkpoints++
      try {
        check(pictureOf(store), 'at a checkpoint')
      } catch (error) {
        broken.push(error)
      }
    },
  })
  const open = async () => {
    const engine = await createEngine({
      app: bank,
      data: storage.open(),
      checkpointRows: 1 + below(60),
      clock,
      // Some appends fail in a row.
      report: ({ level, code, message }) =>
        level === 'alarm' && code !== 'writes-held-up' && broken.push(new Error(message)),
    })
    // Read the tables until nothing changes meanwhile, since events that were under way continue at once;
    // from then on every change is observed.
    let picture: Picture
    let at: string
    do {
      at = engine.position()
      picture = new Picture()
      for (const name of ['accounts', 'transfers', 'receipts'] as const) {
        for (const { key, value } of await engine.scan(name)) picture.set(name, key, value)
      }
    } while (engine.position() !== at)
    check(picture, 'after opening')
    engine.subscribe((changes) => {
      for (const { table, key, after } of changes) picture.set(table, key, after)
      counts.moments++
      try {
        check(picture, 'after a record')
      } catch (error) {
        broken.push(error)
      }
    })
    return engine
  }

  let engine = await open()
  for (let i = 0; i < accountCount; i++) {
    for (let isDone = false; !isDone; ) {
      isDone = await engine
        .submit('open-account', { account: `a${i}`, cents: centsEach }, { requestId: `open-${i}` })
        .then(
          () => true,
          () => false,
        )
    }
  }

  const wishes = new Map<string, { from: string; to: string; cents: number }>()
  const replies = new Map<string, Reply>()
  const send = (id: string) => {
    engine.submit('transfer', wishes.get(id)!, { requestId: id }).then(
      ({ replayed: _, ...reply }) => {
        const before = replies.get(id)
        if (before) counts.again++
        try {
          if (before) assert.deepEqual(reply, before, 'a retry got another reply')
        } catch (error) {
          broken.push(error)
        }
        replies.set(id, reply as Reply)
      },
      (error) => {
        if (!(error instanceof HenceError) || error.advice !== 'retry') broken.push(error)
      },
    )
  }
  for (let i = 0; i < 120; i++) {
    const id = `t${i}`
    wishes.set(id, {
      from: `a${below(accountCount)}`,
      to: below(12) === 0 ? 'nobody' : `a${below(accountCount)}`,
      cents: 1 + below(700),
    })
    send(id)
    if (below(5) === 0) send(id)
    if (below(4) === 0) send(`t${below(i + 1)}`)
    if (below(3) === 0) for (let turns = below(6); turns > 0; turns--) await new Promise(setImmediate)
    if (below(30) === 0) {
      storage.crash()
      counts.crashes++
      engine = await open()
    }
    if (broken.length > 0) throw broken[0]
  }
  while (replies.size < wishes.size) {
    for (const id of wishes.keys()) if (!replies.has(id)) send(id)
    await engine.idle()
    await new Promise(setImmediate)
  }
  await engine.idle()
  if (broken.length > 0) throw broken[0]

  const balances = new Map(Array.from({ length: accountCount }, (_, i) => [`a${i}`, centsEach]))
  for (const [id, { status }] of replies) {
    const { from, to, cents } = wishes.get(id)!
    if (status !== 'accepted') counts.refused++
    if (status !== 'accepted' || to === 'nobody') continue
    balances.set(from, balances.get(from)! - cents)
    balances.set(to, balances.get(to)! + cents)
  }
  const rows = await engine.scan('accounts')
  assert.deepEqual(
    new Map(rows.map(({ key, value }) => [key[0], value.cents])),
    new Map([...balances].sort()),
  )
  const open_ = await engine.scan('transfers', { index: 'byState', prefix: ['under-way'] })
  assert.deepEqual(open_, [], 'a transfer is under way for ever')
  const digest = await engine.digest()
  await engine.close()

  const anew = await createEngine({ app: bank, data: storage.open(true), clock, report: () => {} })
  assert.equal(await anew.digest(), digest, 'a derivation from offset 0 has another digest')
  await anew.close()
  if (broken.length > 0) throw broken[0]
  return counts
}

replayKept('transfers', live)

const name = crashAt(
  'any turn of the event loop',
  `no cent is lost or made in transfers on ${partitions} partitions, ${runs} worlds`,
)
test(name, async (t) => {
  const sum: Record<string, number> = {}
  for (const counts of await eachSeed('transfers', runs, live)) {
    for (const [name, count] of Object.entries(counts)) sum[name] = (sum[name] ?? 0) + count
  }
  t.diagnostic(JSON.stringify(sum))
  if (!isSample) return
  for (const [name, count] of Object.entries(sum))
    assert.ok(count > runs, `${name}: only ${count} in ${runs} worlds`)
})

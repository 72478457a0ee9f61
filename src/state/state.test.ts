import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import type { KeyPart } from '../app/table.ts'
import { HenceError } from '../failure.ts'
import { digest } from './digest.ts'
import { encodeKey, type IndexValue } from './keys.ts'
import { openLmdbStore } from './lmdb-store.ts'
import { type MemoryStore, memoryStore } from './memory-store.ts'
import { State } from './state.ts'
import type { CollectionChanges, Store } from './store.ts'
import { collectionsOf, type TableQuery, type TableShape, TableState } from './table.ts'

// Tests the state, with its overlay, undo, checkpoints and indexes, against a plain Map as the model.
//
// The worst faults: a lost change, or half of a checkpoint. Next: a scan that returns other rows during a
// checkpoint, or an index that disagrees with its table.

type Row = { a?: IndexValue | null; b?: IndexValue; n: number }

const shapes: readonly TableShape[] = [
  { name: 'single', parts: [], indexes: { byA: ['a'], byAB: ['a', 'b'] } },
  { name: 'many', parts: ['number', 'string'], indexes: { byA: ['a'], byBA: ['b', 'a'] } },
  { name: 'plain', parts: ['string'], indexes: {} },
]

const codec = { encode: (row: unknown) => JSON.stringify(row), decode: (text: string) => JSON.parse(text) }

/** The model: table → JSON of the key → key and row. */
type Model = ReadonlyMap<string, ReadonlyMap<string, { key: KeyPart[]; value: Row }>>

const emptyModel: Model = new Map(shapes.map(({ name }) => [name, new Map()]))

function changed(model: Model, table: string, key: KeyPart[], value: Row | undefined): Model {
  const rows = new Map(model.get(table))
  if (value === undefined) rows.delete(JSON.stringify(key))
  else rows.set(JSON.stringify(key), { key, value })
  return new Map([...model, [table, rows]])
}

function compareValues(x: IndexValue, y: IndexValue): number {
  const types = ['boolean', 'number', 'string']
  const byType = types.indexOf(typeof x) - types.indexOf(typeof y)
  if (byType !== 0) return byType
  if (typeof x === 'string') return Buffer.compare(Buffer.from(x), Buffer.from(y as string))
  return Number(x) - Number(y)
}

/** Compares as far as the shorter one goes, so that a partial tuple equals all that begin with it. */
function compareTuples(a: readonly IndexValue[], b: readonly IndexValue[]): number {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const order = compareValues(a[i]!, b[i]!)
    if (order !== 0) return order
  }
  return 0
}

function scanModel(model: Model, shape: TableShape, query: TableQuery, within: string | undefined) {
  const { prefix = [], from = [], to = [], limit = Number.POSITIVE_INFINITY } = query
  const fields = query.index === undefined ? [] : shape.indexes[query.index]!
  const found = [...model.get(shape.name)!.values()]
    .filter(({ key }) => within === undefined || key[0] === within)
    .map((row) => {
      const values = fields.map((field) => (row.value as Record<string, unknown>)[field] as IndexValue | null)
      const names = within === undefined ? row.key : row.key.slice(1)
      return {
        row,
        missing: values.some((value) => value === undefined || value === null),
        order: [...values, ...names] as IndexValue[],
      }
    })
    .filter(({ missing }) => !missing)
    .filter(({ order }) => compareTuples(order, prefix) === 0)
    .filter(({ order }) => compareTuples(order, [...prefix, ...from]) >= 0)
    .filter(({ order }) => to.length === 0 || compareTuples(order, [...prefix, ...to]) < 0)
    .sort((x, y) => compareTuples(x.order, y.order))
  if (query.reverse) found.reverse()
  return found.slice(0, limit).map(({ row }) => row)
}

/** Passes writes on, or fails on request: before anything was written, or after everything was. */
class FailingStore implements Store {
  readonly inner: Store
  failing: 'before' | 'after' | undefined

  constructor(inner: Store) {
    this.inner = inner
  }

  get(collection: string, key: string) {
    return this.inner.get(collection, key)
  }

  range(collection: string, range: object) {
    return this.inner.range(collection, range)
  }

  async write(changes: Iterable<CollectionChanges>): Promise<void> {
    const { failing } = this
    this.failing = undefined
    if (failing !== 'before') await this.inner.write(changes)
    if (failing) throw new Error('the disk is full')
  }

  view() {
    return this.inner.view()
  }

  close() {
    return this.inner.close()
  }
}

/** A place where stores are opened again and again. */
interface Place {
  open(): Promise<Store>
  /** The store as found if the process died now, without closing it. */
  crash?(): void
  end(): Promise<void>
}

const places = {
  async memory(): Promise<Place> {
    let store: MemoryStore = memoryStore()
    return {
      open: async () => store,
      crash() {
        store = store.snapshot()
      },
      end: async () => {},
    }
  },
  async lmdb(): Promise<Place> {
    const directory = await mkdtemp(join(tmpdir(), 'hence-state-'))
    return {
      open: () => openLmdbStore({ directory, collections: collectionsOf(shapes) }),
      end: () => rm(directory, { recursive: true, force: true }),
    }
  },
}

/** The state at work beside its model. */
class Pair {
  readonly place: Place
  store!: FailingStore
  state!: State
  tables!: Map<string, TableState>
  model: Model = emptyModel
  /** The models that the store may hold: one, or two while a write is under way. */
  stored: Model[] = [emptyModel]
  marks: { mark: number; model: Model }[] = []
  checkpoint: Promise<void> | undefined
  #lives = 0

  constructor(place: Place) {
    this.place = place
  }

  async open(): Promise<void> {
    this.store = new FailingStore(await this.place.open())
    // In every other life the cache has almost no room.
    this.state = this.#lives++ % 2 === 0 ? new State(this.store, 1_000) : new State(this.store)
    this.tables = new Map(shapes.map((shape) => [shape.name, new TableState(this.state, shape, codec)]))
  }

  write(table: string, key: KeyPart[], row: Row | undefined): void {
    const state = this.tables.get(table)!
    const had = this.model.get(table)!.has(JSON.stringify(key))
    if (row !== undefined) state.put(encodeKey(key), row)
    else assert.equal(state.delete(encodeKey(key)), had)
    this.model = changed(this.model, table, key, row)
  }

  mark(): void {
    this.marks.push({ mark: this.state.mark(), model: this.model })
  }

  undo(): void {
    const last = this.marks.pop()
    if (last === undefined) return
    this.state.undo(last.mark)
    this.model = last.model
  }

  commit(): void {
    this.state.commit()
    this.marks = []
  }

  fail(failing: 'before' | 'after'): void {
    if (this.checkpoint === undefined) this.store.failing = failing
  }

  /** Holds what the state says was changed since the last mark against the two models. */
  checkChanges(): void {
    const last = this.marks.at(-1)
    if (last === undefined) return
    const told = new Map<string, unknown>()
    for (const { collection, key, before, after } of this.state.changes(last.mark)) {
      const name = `${collection} ${key}`
      assert.ok(!told.has(name), 'a key is reported twice')
      assert.ok(before !== undefined || after !== undefined, 'nothing became nothing')
      told.set(name, { before, after })
    }
    const rows = new Set<string>()
    for (const { name } of shapes) {
      const now = this.model.get(name)!
      const earlier: typeof now = last.model.get(name)!
      for (const [id, { key }] of [...earlier, ...now]) {
        const change = { before: earlier.get(id)?.value, after: now.get(id)?.value }
        const row = `t:${name} ${encodeKey(key)}`
        rows.add(row)
        // A row that was put unchanged may be reported or not.
        if (told.has(row)) assert.deepEqual(told.get(row), change)
        else assert.deepEqual(change.before, change.after)
      }
    }
    for (const name of told.keys()) assert.ok(rows.has(name) || !name.startsWith('t:'), `${name} has no row`)
  }

  begin(): void {
    if (this.checkpoint !== undefined) return
    this.commit()
    const moving = this.model
    this.stored = [this.stored[0]!, moving]
    const { failing } = this.store
    this.checkpoint = this.state.checkpoint().then(
      () => {
        assert.equal(failing, undefined)
        this.stored = [moving]
      },
      (error) => {
        assert.ok(failing, String(error))
        assert.ok(
          error instanceof HenceError && error.code === 'checkpoint-failed' && error.advice === 'retry',
        )
        // A write that failed after everything was written leaves the store as if it had succeeded.
        this.stored = [failing === 'before' ? this.stored[0]! : moving]
      },
    )
  }

  async finish(): Promise<void> {
    await this.checkpoint
    this.checkpoint = undefined
  }

  async reopen(crash: boolean): Promise<void> {
    const { crash: die } = this.place
    if (crash && die) die()
    else await this.finish()
    const allowed = this.stored
    if (!crash || !die) await this.state.close()
    await this.checkpoint
    await this.open()
    this.marks = []
    this.checkpoint = undefined
    const found = this.rows()
    const model = allowed.find((candidate) => JSON.stringify(rowsOf(candidate)) === found)
    assert.ok(model, 'what is found is no state that was ever saved')
    this.stored = [model]
    this.model = model
  }

  rows(): string {
    return JSON.stringify(shapes.map(({ name }) => this.tables.get(name)!.scan({})))
  }

  checkAll(): void {
    assert.equal(this.rows(), JSON.stringify(rowsOf(this.model)))
    for (const shape of shapes) {
      for (const index of Object.keys(shape.indexes)) {
        this.checkScan(shape, { index }, undefined)
        for (const pk of partitionKeys) this.checkScan(shape, { index }, pk)
      }
    }
  }

  checkScan(shape: TableShape, query: TableQuery, within: string | undefined): void {
    const found = this.tables
      .get(shape.name)!
      .scan(query, within === undefined ? undefined : encodeKey([within]))
    assert.deepEqual(found, scanModel(this.model, shape, query, within))
  }

  async end(): Promise<void> {
    await this.finish()
    await this.state.close()
    await this.place.end()
  }
}

function rowsOf(model: Model) {
  return shapes.map((shape) => scanModel(model, shape, {}, undefined))
}

const partitionKeys = ['', 'a', 'a\0', 'b', 'é']
const partitionKey = fc.constantFrom(...partitionKeys)
const value: fc.Arbitrary<IndexValue> = fc.constantFrom(true, false, -1, 0, 2, '', 'x', '\0', '😀')
const key = fc.oneof(
  fc.tuple(fc.constant(shapes[0]!), fc.tuple(partitionKey)),
  fc.tuple(
    fc.constant(shapes[1]!),
    fc.tuple(partitionKey, fc.constantFrom(-1.5, 0, 7, 1e300), fc.constantFrom('', 'p', 'q')),
  ),
  fc.tuple(fc.constant(shapes[2]!), fc.tuple(partitionKey, fc.constantFrom('', 'r', '\0'))),
) as fc.Arbitrary<[TableShape, KeyPart[]]>
const row: fc.Arbitrary<Row> = fc.record(
  { a: fc.option(value), b: value, n: fc.nat(100) },
  { requiredKeys: ['n'], noNullPrototype: true },
)
/** A scan: the table, the query, and the partition key that it is kept to. */
type Scan = [shape: TableShape, query: TableQuery, within: string | undefined]

const scan: fc.Arbitrary<Scan> = fc
  .tuple(
    fc.constantFrom(...shapes),
    fc.nat(2),
    fc.option(partitionKey, { nil: undefined }),
    fc.nat(4),
    fc.nat(4),
  )
  .chain(([shape, n, within, prefixed, bounded]) => {
    const index = [undefined, ...Object.keys(shape.indexes)][n]
    const values = index === undefined ? [] : shape.indexes[index]!.map(() => value)
    const kinds = within === undefined ? (['string', ...shape.parts] as const) : shape.parts
    const parts: fc.Arbitrary<IndexValue>[] = [
      ...values,
      ...kinds.map((kind) =>
        kind === 'string' ? fc.constantFrom('', 'a', 'é', 'p', 'q') : fc.constantFrom(-2, 0, 7, 8),
      ),
    ]
    const bound = fc.tuple(...parts.slice(prefixed, prefixed + bounded))
    return fc
      .record(
        {
          index: fc.constant(index),
          prefix: fc.tuple(...parts.slice(0, prefixed)),
          from: bound,
          to: bound,
          reverse: fc.boolean(),
          limit: fc.nat(4),
        },
        { requiredKeys: ['index'], noNullPrototype: true },
      )
      .map((query): Scan => {
        // The parts of the bounds follow the prefix, so without the prefix they would mean other parts.
        const { from, to, ...rest } = query
        return query.prefix === undefined && prefixed > 0 ? [shape, rest, within] : [shape, query, within]
      })
  })

/** Something that happens, with a name that says all, since it is what a failing run prints. */
type Step = [name: string, run: (pair: Pair) => void | Promise<void>]

const put = fc
  .tuple(key, row)
  .map(
    ([[{ name }, parts], value]): Step => [
      `put ${name} ${JSON.stringify([parts, value])}`,
      (pair) => pair.write(name, parts, value),
    ],
  )
const remove = key.map(
  ([{ name }, parts]): Step => [
    `delete ${name} ${JSON.stringify(parts)}`,
    (pair) => pair.write(name, parts, undefined),
  ],
)
const get = key.map(
  ([{ name }, parts]): Step => [
    `get ${name} ${JSON.stringify(parts)}`,
    (pair) => {
      const found = pair.tables.get(name)!.get(encodeKey(parts))
      assert.deepEqual(found, pair.model.get(name)!.get(JSON.stringify(parts))?.value)
    },
  ],
)
const look = scan.map(
  ([shape, query, within]): Step => [
    `scan ${shape.name} ${JSON.stringify([query, within])}`,
    (pair) => pair.checkScan(shape, query, within),
  ],
)
const record: Step[] = [
  ['mark', (pair) => pair.mark()],
  ['changes', (pair) => pair.checkChanges()],
  ['undo', (pair) => pair.undo()],
  ['commit', (pair) => pair.commit()],
]
const saving: Step[] = [
  ['begin a checkpoint', (pair) => pair.begin()],
  ['finish the checkpoint', (pair) => pair.finish()],
  ['a turn of the event loop', () => new Promise((resolve) => setImmediate(resolve))],
  ['the next write fails', (pair) => pair.fail('before')],
  ['the next write fails when all is written', (pair) => pair.fail('after')],
  ['look at everything', (pair) => pair.checkAll()],
]
const ending: Step[] = [
  ['close and reopen', (pair) => pair.reopen(false)],
  ['crash and reopen', (pair) => pair.reopen(true)],
]
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 12, arbitrary: put },
  { weight: 5, arbitrary: remove },
  { weight: 4, arbitrary: get },
  { weight: 6, arbitrary: look },
  { weight: 4, arbitrary: fc.constantFrom(...record) },
  { weight: 4, arbitrary: fc.constantFrom(...saving) },
  { weight: 1, arbitrary: fc.constantFrom(...ending) },
)

for (const [name, make] of Object.entries(places)) {
  test(`${name}: the state is what the model is, whatever happens to it`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 80, size: 'max' }), async (list) => {
        const pair = new Pair(await make())
        await pair.open()
        try {
          for (const [, step] of list) await step(pair)
          pair.checkAll()
        } finally {
          await pair.end()
        }
      }),
      { numRuns: name === 'lmdb' ? 60 : 600 },
    )
  })

  test(`${name}: the digest is that of the rows, however they came about`, async (t) => {
    const place = await make()
    const pair = new Pair(place)
    await pair.open()
    t.after(() => pair.end())
    const plain = new Pair(await places.memory())
    await plain.open()
    for (let i = 0; i < 300; i++) {
      const key = [`k${i % 7}`, i % 11, `p${i % 3}`]
      pair.write('many', key, { n: -i, a: `${i}` })
      if (i % 50 === 0) {
        pair.begin()
        await pair.finish()
      }
      if (i % 5 === 0) pair.write('many', key, undefined)
      else pair.write('many', key, i % 2 ? { n: i, b: true, a: 'é' } : { a: 'é', b: true, n: i })
    }
    for (const { key, value } of [...pair.model.get('many')!.values()].reverse())
      plain.write('many', key, value)
    assert.equal(digest(pair.tables.values()), digest([...plain.tables.values()].reverse()))
    await pair.reopen(false)
    pair.begin()
    await pair.finish()
    plain.write('single', ['one more'], { n: 1 })
    assert.notEqual(digest(pair.tables.values()), digest(plain.tables.values()))
  })
}

async function fresh(shape: TableShape) {
  const state = new State(memoryStore())
  return { state, table: new TableState(state, shape, codec) }
}

function fails(code: string, action: () => unknown): void {
  assert.throws(
    action,
    (error) => error instanceof HenceError && error.code === code && error.advice === 'change',
  )
}

test('an invalid query is refused', async () => {
  const { table } = await fresh(shapes[1]!)
  const within = encodeKey(['a'])
  fails('query-invalid', () => table.scan({ index: 'none' }))
  fails('query-invalid', () => table.scan({ index: 'toString' }))
  fails('query-invalid', () => table.scan({ prefix: [1] }))
  fails('query-invalid', () => table.scan({ prefix: ['a', '1'] }))
  fails('query-invalid', () => table.scan({ prefix: ['a'], from: ['1'] }))
  fails('query-invalid', () => table.scan({ prefix: ['a', 1, 'b', 2] }))
  fails('query-invalid', () => table.scan({ prefix: ['a', 1], to: ['b', 2] }))
  fails('query-invalid', () => table.scan({ prefix: ['a'] }, within))
  fails('query-invalid', () => table.scan({ index: 'byA', prefix: [true, 'a', 'x'] }))
  fails('query-invalid', () => table.scan({ index: 'byA', prefix: [true, 1, 'x', 'y'] }, within))
  fails('query-invalid', () => table.scan({ limit: -1 }))
  fails('query-invalid', () => table.scan({ limit: Number.NaN }))
  fails('query-invalid', () => table.scan({ prefix: 'a' as never }))
  fails('key-invalid', () => table.scan({ prefix: ['a', Number.NaN] }))
  fails('key-too-long', () => table.scan({ prefix: ['x'.repeat(2_000)] }))
})

test('a field that cannot be indexed is refused, and nothing is changed', async () => {
  const { state, table } = await fresh(shapes[1]!)
  const rowKey = encodeKey(['a', 1, 'x'])
  table.put(rowKey, { a: 1, b: 2, n: 1 })
  const before = state.mark()
  fails('key-too-long', () => table.put(rowKey, { a: 3, b: 'x'.repeat(1_900), n: 2 }))
  fails('key-invalid', () => table.put(rowKey, { a: 3, b: { deep: true }, n: 2 }))
  assert.equal(state.mark(), before)
  assert.equal(table.scan({ index: 'byA', prefix: [1] }).length, 1)
})

test('a checkpoint during a record or another checkpoint is an error', async () => {
  const { state, table } = await fresh(shapes[2]!)
  table.put(encodeKey(['a', 'x']), { n: 1 })
  await assert.rejects(state.checkpoint(), /while a record was being applied/)
  state.commit()
  const first = state.checkpoint()
  await assert.rejects(state.checkpoint(), /under way/)
  await first
})

test('an undecodable value is an error that says what to do', async () => {
  const store = memoryStore()
  await store.write([['t:plain', [[encodeKey(['a', 'x']), '{"n":']]]])
  const table = new TableState(new State(store), shapes[2]!, codec)
  const unreadable = (error: unknown) =>
    error instanceof HenceError && error.code === 'state-unreadable' && error.advice === 'operator'
  assert.throws(() => table.get(encodeKey(['a', 'x'])), unreadable)
  assert.throws(() => table.scan({}), unreadable)
})

test('changes that wait for a checkpoint are counted, also after a failed one', async () => {
  const store = new FailingStore(memoryStore())
  const state = new State(store)
  const rows = state.collection<{ text: string }>('rows', codec, true)
  for (let i = 0; i < 100; i++) rows.set(`${i}`, { text: 'x'.repeat(1_000) })
  const mark = state.mark()
  rows.set('one more', { text: '' })
  assert.equal(state.dirtyCount, 101)
  state.undo(mark)
  state.commit()
  store.failing = 'before'
  const failing = state.checkpoint()
  assert.equal(state.dirtyCount, 0)
  await assert.rejects(failing)
  rows.set('later', { text: '' })
  state.commit()
  assert.equal(state.dirtyCount, 102)
  await state.checkpoint()
  assert.equal(state.dirtyCount, 0)
  assert.equal([...store.inner.range('rows')].length, 101)
})

test('a dropped value goes with the next checkpoint that succeeds, unless it was set again', async () => {
  for (const [kept, failing] of [
    [false, undefined],
    [false, 'before'],
    [false, 'after'],
    [true, 'before'],
  ] as const) {
    const store = new FailingStore(memoryStore())
    const state = new State(store)
    const rows = state.collection<number>('rows', codec, kept)
    for (const key of ['a', 'b', 'c', 'd']) rows.set(key, 1)
    state.commit()
    await state.checkpoint()
    rows.set('d', 2)
    const drop = (...keys: string[]) => {
      for (const key of keys) rows.drop(key)
      state.commit()
    }
    drop('a', 'b', 'd')
    rows.set('b', 3)
    state.commit()
    assert.equal(rows.get('d'), undefined, 'one with an unsaved change is deleted')
    store.failing = failing
    if (failing) {
      await assert.rejects(state.checkpoint())
      drop('a', 'b')
      rows.set('b', 4)
      state.commit()
    }
    await state.checkpoint()
    assert.equal(state.dirtyCount, 0)
    const left = [['b', failing ? 4 : 3] as const, ['c', 1] as const]
    assert.deepEqual([...rows.range()], left)
    assert.deepEqual(
      [...store.inner.range('rows')],
      left.map(([key, value]) => [key, `${value}`]),
    )
  }
})

test('dropped values leave room for changes: requests do not wait for the checkpoint that forgets', async () => {
  const state = new State(memoryStore())
  const rows = state.collection<number>('rows', codec, false)
  for (let i = 0; i < 1_000; i++) rows.set(fourDigits(i), i)
  state.commit()
  await state.checkpoint()
  for (let i = 0; i < 900; i++) rows.drop(fourDigits(i))
  state.commit()
  assert.equal(state.dirtyCount, 0)
  await state.checkpoint()
  assert.equal([...rows.range()].length, 100)
})

test('rows may change, and be evicted, while a checkpoint drops what it has saved', async () => {
  for (const kept of [true, false]) {
    const store = memoryStore()
    await store.write([['rows', Array.from({ length: 9_000 }, (_, i) => [fourDigits(i), '-1'] as const)]])
    const state = new State(store, 20_000)
    const rows = state.collection<number>('rows', codec, kept)
    const model = new Map<string, number>()
    const sorted = () => [...model].sort(([a], [b]) => (a < b ? -1 : 1))
    const range = { to: fourDigits(2_000) }
    const set = (key: string, value: number) => {
      rows.set(key, value)
      model.set(key, value)
      state.commit()
    }
    for (let i = 0; i < 2_000; i++) set(fourDigits(i), 0)
    let isDone = false
    const saving = state.checkpoint().then(() => {
      isDone = true
    })
    let turns = 0
    for (; !isDone; turns++) {
      // So many reads evict others; a row that was evicted and changes has another cell.
      for (let i = 2_000; i < 9_000; i++) rows.get(fourDigits(i))
      for (let i = turns % 5; i < 2_000; i += 5) set(fourDigits(i), turns)
      assert.deepEqual([...rows.range(range)], sorted())
      await new Promise((resolve) => setImmediate(resolve))
    }
    await saving
    assert.ok(turns > 4, `${turns} turns: the drops take several`)
    await state.checkpoint()
    assert.deepEqual(
      [...store.range('rows', range)],
      sorted().map(([key, value]) => [key, `${value}`]),
    )
  }
})

test('a value that changes often counts once in the bytes that wait for a checkpoint', async () => {
  const state = new State(memoryStore())
  const rows = state.collection<{ text: string }>('rows', codec, true)
  const change = (length: number) => {
    rows.set('row', { text: 'x'.repeat(length) })
    state.commit()
  }
  change(1_000_000)
  const once = state.dirtyBytes
  for (let i = 0; i < 50; i++) change(1_000_000)
  assert.equal(state.dirtyBytes, once)
  change(1_000)
  assert.ok(state.dirtyBytes < 2_000, `${state.dirtyBytes}`)
  const saving = state.checkpoint()
  change(1_000)
  assert.ok(state.dirtyBytes > 2_000, `${state.dirtyBytes}`)
  await saving
  await state.checkpoint()
  assert.equal(state.dirtyBytes, 0)
})

test('a checkpoint that completes after an interruption touches nothing in memory', async () => {
  const state = new State(memoryStore())
  const rows = state.collection<{ text: string }>('rows', codec, true)
  rows.set('row', { text: '' })
  state.commit()
  const saving = state.checkpoint()
  state.abandon()
  await saving
  assert.equal(state.dirtyCount, 1, 'what it saved still counts as not saved')
  await assert.rejects(state.checkpoint(), /while a record was being applied/)
  await state.close()
})

const fourDigits = (i: number): string => String(i).padStart(4, '0')

/** Counts what is read. */
class CountingStore extends FailingStore {
  reads = 0

  override get(collection: string, key: string) {
    this.reads++
    return super.get(collection, key)
  }
}

test('saved values are cached up to a bound, those read lately longest', async () => {
  const store = new CountingStore(memoryStore())
  const writer = new State(store).collection<number[]>('rows', codec, true)
  const key = (i: number) => String(i).padStart(6, '0')
  const entries = Array.from({ length: 10_000 }, (_, i) => [key(i), '[1,2,3]'] as const)
  await store.write([['rows', entries]])
  assert.equal(writer.get(key(1)), undefined, 'it was opened before')

  const roomy = new State(store).collection<number[]>('rows', codec, true)
  for (let i = 0; i < 20_000; i++) roomy.get(key(i % 10_000))
  assert.equal(store.reads, 10_000, 'each is read once')

  store.reads = 0
  const tight = new State(store, 500_000).collection<number[]>('rows', codec, true)
  for (let i = 0; i < 20_000; i++) {
    assert.deepEqual(tight.get(key(i % 10_000)), [1, 2, 3])
    tight.get(key(0))
  }
  assert.ok(
    store.reads > 19_000,
    `${store.reads} reads: with room for some 2,000, none is there when it comes again`,
  )
  assert.ok(store.reads < 20_100, `${store.reads} reads: the one that is always of use stays`)

  store.reads = 0
  const none = new State(store).collection<number[]>('rows', codec, false)
  none.get(key(1))
  none.get(key(1))
  assert.equal(store.reads, 2)
})

test('a saved value is cached if it was read before, and not if it was only written', async () => {
  const store = new CountingStore(memoryStore())
  const state = new State(store)
  const rows = state.collection<number[]>('rows', codec, true)
  for (const key of ['read', 'written', 'written again']) rows.set(key, [1])
  rows.get('read')
  state.commit()
  await state.checkpoint()
  rows.get('written again')
  rows.set('written again', [2])
  state.commit()
  await state.checkpoint()
  const reads = (key: string): number => {
    store.reads = 0
    rows.get(key)
    return store.reads
  }
  assert.deepEqual(['read', 'written again', 'written', 'written'].map(reads), [0, 0, 1, 0])
})

test('a key without a value is looked for once, also where saved values are not cached', async () => {
  const store = new CountingStore(memoryStore())
  await store.write([['rows', [['z', '[1]']]]])
  for (const kept of [true, false]) {
    const state = new State(store)
    const rows = state.collection<number[]>('rows', codec, kept)
    store.reads = 0
    for (let i = 0; i < 2; i++) assert.equal(rows.get('a'), undefined)
    rows.set('a', [1])
    assert.deepEqual(state.changes(0), [{ collection: 'rows', key: 'a', before: undefined, after: [1] }])
    state.undo(0)
    assert.equal(rows.get('a'), undefined)
    assert.equal(store.reads, 1)
  }
})

test('the bytes of cached values are a whole number, as a metric of bytes is', async () => {
  const state = new State(memoryStore())
  const rows = state.collection<{ text: string }>('rows', codec, true)
  for (let length = 0; length < 300; length++) {
    rows.set(`row${length}`, { text: 'x'.repeat(length) })
    rows.get(`row${length}`)
  }
  state.commit()
  await state.checkpoint()
  assert.ok(state.cacheBytes > 0 && Number.isInteger(state.cacheBytes), `${state.cacheBytes}`)
})

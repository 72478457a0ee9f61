import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { differences, summarise } from '../../test/differences.ts'
import { type App, app, effect, type Outcome, scopes } from '../app/index.ts'
import type { KeyPart } from '../app/table.ts'
import { claims } from '../constraint/tables.ts'
import { encodeStoredOutcome } from '../derivation/stored-outcome.ts'
import { identityOf } from '../identity.ts'
import { canonicalJson } from '../state/digest.ts'
import { encodeKey } from '../state/keys.ts'
import { openLmdbStore } from '../state/lmdb-store.ts'
import { memoryStore } from '../state/memory-store.ts'
import type { Store } from '../state/store.ts'
import { comparedCollections } from './diff.ts'
import type { DiffGroup } from './diff-summary.ts'
import { type Difference, lineOf, type RowDifference } from './difference.ts'
import type { ComparedSide } from './merge.ts'

// The diff of two stores, against models of what is in them.
//
// The worst failure is a difference that is left out, because a person approves what the diff shows. The next
// worst is a diff of the same stores that differs the second time, because then the approved hash is never
// found again.

const anything = {
  '~standard': { version: 1 as const, vendor: 'test', validate: (value: unknown) => ({ value }) },
}
const [note, room] = scopes('note', 'room')

function appWith(kind: 'before' | 'after'): App {
  const isBefore = kind === 'before'
  const definition = { value: anything }
  return app('compared', {
    requests: [],
    tables: [
      note.table('notes', definition),
      note.table('lines', { value: anything, key: ['number', 'string'] }),
      (isBefore ? note : room).table('moved', definition),
      isBefore
        ? note.table('rekeyed', { value: anything, key: ['number'] })
        : note.table('rekeyed', { value: anything, key: ['string'] }),
      note.table(isBefore ? 'gone' : 'fresh', definition),
    ],
    constraints: [room.capacity('seats', { limit: isBefore ? 3 : 4 })],
    effects: [effect('mail', { input: anything })],
  })
}

const before = appWith('before')
const after = appWith('after')

/** The contents of a store: collection → JSON of the parts of a key → value. */
type Model = ReadonlyMap<string, ReadonlyMap<string, unknown>>

const texts = fc.constantFrom('a', 'b', 'ä|`\n', '\0\x01', '\u{10ffff}')
const numbers = fc.constantFrom(-2.5, 0, 1, 7e300)
const rows = fc.dictionary(fc.constantFrom('x', 'y', '10', '9', '__proto__'), fc.jsonValue({ maxDepth: 2 }), {
  maxKeys: 3,
})
const identities = fc.constantFrom(
  identityOf('r1', 'ann'),
  identityOf('r2', 'Jörg'),
  identityOf('0197f5a0-7c2e-7d3a-8b1e-2f4c6a8e0d11', 'ann'),
)
const small = fc.integer({ min: 0, max: 3 })

interface Kind {
  readonly key: fc.Arbitrary<readonly KeyPart[]>
  readonly value: fc.Arbitrary<unknown>
}

const outcomes: fc.Arbitrary<Outcome | undefined> = fc.oneof(
  fc.constant(undefined),
  rows.map((value) => ({ status: 'accepted' as const, value: value as never })),
  texts.map((reason) => ({ status: 'rejected' as const, reason })),
  texts.map((message) => ({ status: 'failed' as const, code: 'derivation-threw', message })),
)

function kindsOf({ tables }: App): Record<string, Kind> {
  const kinds: Record<string, Kind> = {}
  for (const { name, parts } of tables.values()) {
    const key = fc.tuple(texts, ...parts.map((kind) => (kind === 'string' ? texts : numbers)))
    kinds[`t:${name}`] = { key, value: rows }
  }
  return {
    ...kinds,
    decided: {
      key: fc.tuple(identities),
      value: fc.tuple(outcomes, outcomes).map(([outcome, corrected]) => ({
        partition: 0,
        offset: 1,
        outcome,
        ...(outcome && corrected && { corrected }),
      })),
    },
    't:hence.effects': {
      key: fc.tuple(fc.constantFrom('e1', 'e2', 'e3')),
      value: fc.record({
        type: fc.constantFrom('mail', 'charge'),
        input: rows.map((row) => JSON.stringify(row)),
        state: fc.constantFrom('pending', 'done', 'dead'),
        at: small,
        scope: fc.constantFrom('note', 'room'),
        key: texts,
        identity: identities,
        depth: small,
        tries: small,
      }),
    },
    't:hence.claims': {
      key: fc.tuple(texts, fc.constant('seats'), identities),
      value: fc.record({
        units: small,
        priority: small,
        confirmed: fc.boolean(),
        at: small,
        holder: texts,
        scope: fc.constant('note'),
        rank: small,
        order: small,
      }),
    },
    't:hence.standings': {
      key: fc.tuple(texts, fc.constant('seats')),
      value: fc.record({
        set: fc.constantFrom(null, 3, 4),
        adjusted: fc.constantFrom(0, 1),
        claimed: fc.constantFrom(0, 1),
        waived: fc.constantFrom(0, 1),
        settled: fc.boolean(),
        count: small,
      }),
    },
    't:hence.violations': {
      key: fc.tuple(texts, fc.constantFrom('v1', 'v2')),
      value: fc.record({
        constraint: fc.constant('seats'),
        state: fc.constantFrom('open', 'resolved'),
        excess: small,
      }),
    },
    't:hence.timers': {
      key: fc.tuple(texts, fc.constant('note'), fc.constantFrom('due', 'hence:deadline'), texts),
      value: fc.record({ at: small, data: rows.map((row) => JSON.stringify(row)), id: texts }),
    },
  }
}

function models(which: App): fc.Arbitrary<Model> {
  const collections = Object.entries(kindsOf(which)).map(([collection, { key, value }]) =>
    fc
      .array(fc.tuple(key, value), { maxLength: 5 })
      .map(
        (entries) =>
          [collection, new Map(entries.map(([parts, row]) => [JSON.stringify(parts), row]))] as const,
      ),
  )
  return fc.tuple(...collections).map((made) => new Map(made))
}

/** Two models that have much in common. */
const pairs = fc
  .tuple(models(before), models(after), fc.array(fc.boolean(), { minLength: 7, maxLength: 7 }))
  .map(([old, fresh, keep]) => {
    const next = new Map(fresh)
    let at = 0
    for (const [collection, entries] of old) {
      if (!next.has(collection) || ['t:moved', 't:rekeyed'].includes(collection)) continue
      // The later entry of a key wins, so most keys of both models have equal values.
      if (keep[at++ % keep.length]) next.set(collection, new Map([...next.get(collection)!, ...entries]))
    }
    return [old, next] as const
  })

const keyOf = (collection: string, parts: string) =>
  collection === 'decided' ? (JSON.parse(parts) as string[])[0]! : encodeKey(JSON.parse(parts))

/** The same value with its fields in reverse order, recursively. */
function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([name, field]) => [name, reversed(field)]),
  )
}

async function stored(model: Model, options: { shuffled: boolean }): Promise<Store> {
  const store = memoryStore()
  for (const [collection, entries] of model) {
    const list = [...entries]
    if (options.shuffled) {
      list.reverse()
      // Every key is written twice, so the store has another history.
      await store.write([[collection, list.map(([parts]) => [keyOf(collection, parts), '{}'] as const)]])
    }
    const written = list.map(([parts, value]) => {
      let row = value as Record<string, unknown>
      if (options.shuffled) {
        row = reversed(row) as Record<string, unknown>
        for (const field of ['input', 'data']) {
          if (typeof row[field] === 'string') row[field] = JSON.stringify(reversed(JSON.parse(row[field])))
        }
      }
      const { encode } = (collection === 't:hence.claims' && claims.text) || { encode: JSON.stringify }
      const text = collection === 'decided' ? encodeStoredOutcome(row as never) : encode(row)
      return [keyOf(collection, parts), text] as const
    })
    await store.write([[collection, written]])
  }
  return store
}

/** The compared part of a value in a system table. */
const essences: Readonly<Record<string, (value: Record<string, never>, limit: number) => unknown>> = {
  // `corrected` is the outcome that this side's code derives; the client's first outcome is not compared.
  decided: ({ outcome, corrected }) => corrected ?? outcome,
  't:hence.effects': ({ type, input, scope, key }) => [
    type,
    typeof input === 'string' ? JSON.parse(input) : input,
    scope,
    key,
  ],
  't:hence.claims': ({ units, priority, confirmed, holder, scope }) => [
    units,
    priority,
    confirmed,
    holder,
    scope,
  ],
  // A difference shows the limit, and a row what it was made of.
  't:hence.standings': ({ set, adjusted = 0, limit, claimed, waived, settled }, declared) => [
    limit ?? (set ?? declared) + adjusted,
    claimed,
    waived,
    settled,
  ],
  't:hence.timers': ({ at, data }) => [at, typeof data === 'string' ? JSON.parse(data) : data],
}

/** One side as a diff sees it: place → canonical JSON of the compared part. */
function picture(which: App, model: Model, other: Model): Map<string, string> {
  const seen = new Map<string, string>()
  for (const [collection, entries] of model) {
    for (const [parts, value] of entries) {
      if (collection === 'decided' && !other.get('decided')!.has(parts)) continue
      if (collection === 't:hence.timers' && parts.includes('hence:')) continue
      const essence =
        essences[collection]?.(value as never, which.constraints.get('seats')!.limit) ??
        (collection === 'decided' ? undefined : value)
      if (essence === undefined) continue
      const scope = which.tables.get(collection.slice(2))?.scope
      seen.set(placeOf(collection, scope, JSON.parse(parts)), canonicalJson(essence))
    }
  }
  const limit = which.constraints.get('seats')!.limit
  for (const parts of other.get('t:hence.standings')!.keys()) {
    const place = placeOf('t:hence.standings', undefined, JSON.parse(parts))
    if (!seen.has(place)) seen.set(place, canonicalJson([limit, 0, 0, false]))
  }
  return seen
}

/** The place includes the scope, because a key of another scope names another row. */
function placeOf(collection: string, scope: string | undefined, key: readonly KeyPart[]): string {
  return JSON.stringify([collection, scope, key])
}

function placeOfDifference(difference: Difference): {
  collection: string
  key: readonly KeyPart[]
  scope?: string
} {
  const d = difference
  switch (d.kind) {
    case 'row':
      return { collection: `t:${d.table}`, key: d.key, scope: d.scope }
    case 'outcome':
      return { collection: 'decided', key: [identityOf(d.requestId, d.principal)] }
    case 'effect':
      return { collection: 't:hence.effects', key: [d.id] }
    case 'claim':
      return {
        collection: 't:hence.claims',
        key: [d.key, d.constraint, identityOf(d.requestId, d.principal)],
      }
    case 'usage':
      return { collection: 't:hence.standings', key: [d.key, d.constraint] }
    case 'violation':
      return { collection: 't:hence.violations', key: [d.key, d.id] }
    case 'timer':
      return { collection: 't:hence.timers', key: [d.key, d.scope, d.event, d.name] }
  }
}

const ranks = [
  'decided',
  ...['effects', 'claims', 'standings', 'violations', 'timers'].map((t) => `t:hence.${t}`),
]

/** A text that sorts as the diff should. */
function sortKeyOf(difference: Difference): string {
  const { collection, key } = placeOfDifference(difference)
  const encoded = collection === 'decided' ? (key[0] as string) : encodeKey(key)
  // In a table whose keys have changed their meaning, removed rows come before added ones.
  const half = ['t:moved', 't:rekeyed'].includes(collection) && difference.after !== undefined ? 1 : 0
  const isSystem = ranks.includes(collection)
  return `${isSystem ? ranks.indexOf(collection) + 1 : 0}${isSystem ? '' : collection}\0${half}${encoded}`
}

test('the differences applied to the old store give the new one, and there are no others', async () => {
  await fc.assert(
    fc.asyncProperty(pairs, async ([old, fresh]) => {
      const found = [
        ...differences(
          { app: before, store: await stored(old, { shuffled: false }) },
          { app: after, store: await stored(fresh, { shuffled: true }) },
        ),
      ]
      const state = picture(before, old, fresh)
      const comparedPart = (collection: string, side: unknown) =>
        side === undefined
          ? undefined
          : canonicalJson((essences[collection] ?? ((all) => all))(side as never, 0))
      for (const difference of found) {
        const { collection, key, scope } = placeOfDifference(difference)
        const place = placeOf(collection, scope, key)
        const isOutcome = difference.kind === 'outcome'
        const essence = (side: unknown) =>
          comparedPart(collection, isOutcome && side ? { outcome: side } : side)
        assert.equal(essence(difference.before), state.get(place), `the value before of ${place}`)
        assert.notEqual(essence(difference.after), state.get(place), `${place} does not differ`)
        const is = essence(difference.after)
        if (is === undefined) state.delete(place)
        else state.set(place, is)
      }
      assert.deepEqual(new Map([...state].sort()), new Map([...picture(after, fresh, old)].sort()))
      const order = found.map(sortKeyOf)
      assert.deepEqual(order, [...order].sort(), 'the order')
      assert.equal(new Set(order).size, order.length, 'every difference appears once')
    }),
    { numRuns: 300 },
  )
})

test('two diffs give the same bytes, whatever the history of the stores and the state of deliveries', async () => {
  await fc.assert(
    fc.asyncProperty(pairs, async ([old, fresh]) => {
      const delivered = new Map(old)
      delivered.set(
        't:hence.effects',
        new Map(
          [...old.get('t:hence.effects')!].map(([id, row]) => [
            id,
            { ...(row as object), state: 'done', tries: 9 },
          ]),
        ),
      )
      const run = async (was: Model, shuffled: boolean) => {
        const lines: string[] = []
        const summary = summarise(
          differences(
            { app: before, store: await stored(was, { shuffled }) },
            { app: after, store: await stored(fresh, { shuffled }) },
          ),
          { each: (line) => lines.push(line) },
        )
        return { lines, summary }
      }
      const first = await run(old, false)
      const second = await run(old, true)
      assert.deepEqual(second, first)
      assert.equal(canonicalJson(second.summary), canonicalJson(first.summary))
      const later = await run(delivered, true)
      assert.deepEqual(later.lines, first.lines)
      assert.equal(later.summary.sha256, first.summary.sha256)
    }),
    { numRuns: 100 },
  )
})

async function derived(
  which: App,
  rows: Readonly<Record<string, readonly (readonly [KeyPart[], string])[]>>,
) {
  const store = memoryStore()
  for (const [collection, entries] of Object.entries(rows)) {
    await store.write([
      [
        collection,
        entries.map(
          ([parts, text]) =>
            [collection === 'decided' ? (parts[0] as string) : encodeKey(parts), text] as const,
        ),
      ],
    ])
  }
  return { app: which, store } satisfies ComparedSide
}

test('a summary counts by group and keeps the first samples; its hash is that of the full output', async () => {
  const [r1, r2, r3] = ['r1', 'r2', 'r3'].map((id) => identityOf(id, 'ann')) as [string, string, string]
  const mail = (input: object, state: string) =>
    JSON.stringify({
      type: 'mail',
      input: JSON.stringify(input),
      state,
      at: 1,
      scope: 'note',
      key: 'k',
      identity: r1,
    })
  const was = await derived(before, {
    't:notes': [
      [['a'], '{"n":1}'],
      [['b'], '{"n":2,"m":1}'],
      [['c'], '{"n":3}'],
      [['d'], '{"n":4}'],
    ],
    't:gone': [[['a'], '{}']],
    decided: [
      [[r1], '0:0:f {"status":"accepted","value":null}'],
      [[r2], '0:1:f {"status":"rejected","reason":"late"}'],
      [[r3], '0:2:f '],
    ],
    't:hence.effects': [
      [['e1'], mail({ to: 'ann' }, 'done')],
      [['e2'], mail({ to: 'bob' }, 'pending')],
      [['e3'], mail({ to: 'eve' }, 'done')],
    ],
  })
  const is = await derived(after, {
    't:notes': [
      [['a'], '{"n":9}'],
      [['b'], '{"m":1,"n":2}'],
      [['c'], '{"n":8}'],
      [['e'], '{"n":5}'],
    ],
    decided: [
      [[r1], '0:0:f {"value":null,"status":"accepted"}'],
      [[r2], '0:1:f {"status":"accepted","value":7}'],
      [[r3], '0:2:f {"status":"accepted","value":7}'],
    ],
    't:hence.effects': [
      [['e1'], mail({ to: 'ann' }, 'pending')],
      [['e2'], mail({ to: 'bert' }, 'pending')],
      [['e4'], mail({ to: 'zoe' }, 'pending')],
    ],
  })
  const lines: string[] = []
  const summary = summarise(differences(was, is), { samples: 2, each: (line) => lines.push(line) })
  const counts = (groups: readonly DiffGroup[]) =>
    groups.map(({ name, added, removed, changed, samples }) => [
      name,
      added,
      removed,
      changed,
      samples.length,
    ])
  assert.deepEqual(counts(summary.tables), [
    ['gone', 0, 1, 0, 1],
    ['notes', 1, 1, 2, 2],
  ])
  assert.deepEqual(counts(summary.outcomes), [
    ['rejected late → accepted', 0, 0, 1, 1],
    ['undecided → accepted', 0, 0, 1, 1],
  ])
  assert.deepEqual(counts(summary.effects), [['mail', 1, 1, 1, 2]])
  assert.equal(summary.effects[0]!.delivered, 1, 'e3 was sent, and the new code does not emit it')
  assert.equal(summary.differences, 10)
  assert.equal(lines.length, 10)
  assert.equal(
    summary.sha256,
    createHash('sha256')
      .update(lines.map((line) => `${line}\n`).join(''))
      .digest('hex'),
  )
  assert.equal(
    lines[1],
    '{"after":{"n":9},"before":{"n":1},"key":["a"],"kind":"row","scope":"note","table":"notes"}',
  )
  assert.deepEqual(JSON.parse(lines[6]!), {
    kind: 'outcome',
    requestId: 'r3',
    principal: 'ann',
    partition: 0,
    offset: 2,
    after: { status: 'accepted', value: 7 },
  })
})

test('equal stores: no line, and the hash of no bytes', async () => {
  const same = await derived(before, { 't:notes': [[['a'], '{"n":1}']] })
  const summary = summarise(differences(same, same))
  assert.equal(summary.differences, 0)
  assert.equal(summary.sha256, createHash('sha256').digest('hex'))
  assert.deepEqual(summary.tables, [])
})

test('reasons made up at run time do not add groups without bound', () => {
  const many = Array.from(
    { length: 5_000 },
    (_, i): Difference => ({
      kind: 'outcome',
      requestId: `r${i}`,
      principal: '',
      partition: 0,
      offset: i,
      before: { status: 'accepted', value: null },
      after: { status: 'rejected', reason: `late by ${i}` },
    }),
  )
  const { outcomes } = summarise(many)
  assert.equal(outcomes.length, 101)
  assert.equal(outcomes.find(({ name }) => name === 'accepted → rejected')!.changed, 4_900)
})

test('LMDB stores are compared directly; a diff that is left half-way leaves nothing open', async (t) => {
  const home = await mkdtemp(join(tmpdir(), 'hence-diff-'))
  t.after(() => rm(home, { recursive: true }))
  const open = async (name: string, which: App, n: (i: number) => number) => {
    const store = await openLmdbStore({
      directory: join(home, name),
      collections: comparedCollections(which),
    })
    await store.write([
      ['t:notes', Array.from({ length: 1_000 }, (_, i) => [encodeKey([`k${i}`]), `{"n":${n(i)}}`] as const)],
    ])
    return { app: which, store }
  }
  const was = await open('was', before, (i) => i)
  const is = await open('is', after, (i) => (i % 100 === 0 ? -i : i))
  for (const _ of differences(was, is)) break
  const keys = Array.from(differences(was, is), (difference) => (difference as RowDifference).key[0])
  assert.deepEqual(keys, ['k100', 'k200', 'k300', 'k400', 'k500', 'k600', 'k700', 'k800', 'k900'])
  await was.store.close()
  await is.store.close()
})

test('the state of a delivery is in the difference and not in its line', async () => {
  const e = { type: 'mail', input: '{}', at: 1, scope: 'note', key: 'k', identity: identityOf('r', 'ann') }
  const was = await derived(before, { 't:hence.effects': [[['e'], JSON.stringify({ ...e, state: 'done' })]] })
  const [difference] = differences(was, await derived(after, {}))
  assert.deepEqual(difference, {
    kind: 'effect',
    id: 'e',
    before: { type: 'mail', input: {}, scope: 'note', key: 'k', requestId: 'r', principal: 'ann', at: 1 },
    delivery: 'done',
  })
  assert.ok(!lineOf(difference!).includes('delivery'))
})

test('leaving a diff half-way closes both ranges', () => {
  const left: string[] = []
  const ranged = (which: App, name: string): ComparedSide => ({
    app: which,
    store: {
      *range(collection) {
        try {
          for (let n = 0; ; n++) yield [encodeKey([n]), `{"${name}":${n}}`]
        } finally {
          left.push(`${name} ${collection}`)
        }
      },
    },
  })
  for (const _ of differences(ranged(before, 'was'), ranged(before, 'is'))) break
  assert.deepEqual(left, ['was t:gone', 'is t:gone'])
})

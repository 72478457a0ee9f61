import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { createEngine } from 'hence'
import { backup, check, dryRun, type OfflineProgress, type SchemaFit } from 'hence/offline'
import { hence } from '../hence-process.ts'

// `hence check` holds what is stored against the schemas of new code, and names constant partition keys.

const root = join(import.meta.dirname, '../..')
const orders = 800
let home: string
let data: string

const source = `
import { app, effect, scopes } from 'hence'
import { z } from 'zod'
const [order, shop] = scopes('order', 'shop')
const mail = effect('mail', { input: z.object({ to: z.string() }) })
const charge = effect('charge', { input: z.object({ cents: z.int() }), result: z.object({ paid: z.boolean() }) })
const rows = order.table('orders', { value: z.object({ qty: z.int() }) })
const days = order.table('days', { key: ['number'], value: z.object({ text: z.string() }) })
const counted = shop.table('counted', { value: z.object({ n: z.int() }) })
const ordered = shop.event('ordered', { data: z.object({ shop: z.string(), qty: z.int() }), key: (data) => data.shop })
const remind = order.event('remind', { data: z.object({ order: z.string() }), key: (data) => data.order })
const place = order.request('place', {
  // The output does not fit the schema again.
  input: z.object({ order: z.string(), qty: z.string().transform(Number), unit: z.string().default('piece') }),
  key: (input) => input.order,
  derive(tx, { order, qty }) {
    tx.put(rows, { qty })
    tx.emit(ordered, { shop: 'shop', qty })
    if (qty === 7) tx.put(days, 3, { text: 'a' })
    if (qty < 2) tx.schedule(remind, { order }, { at: tx.now + 1e9 })
    if (qty === 2) tx.effect(mail, { to: order })
    if (qty === 3) tx.effect(charge, { cents: 500 })
  },
})
const open = shop.request('open', {
  input: z.object({ shop: z.string(), text: z.string() }),
  key: (input) => input.shop,
  derive() {},
})
export default app('shop', {
  requests: [place, open],
  tables: [rows, days, counted],
  effects: [mail, charge],
  reactions: [
    shop.on(ordered, (tx) => tx.put(counted, { n: (tx.get(counted)?.n ?? 0) + 1 })),
    order.on(remind, () => {}),
  ],
})
`

/** Writes the app with some of its text replaced. */
async function changed(name: string, ...changes: readonly (readonly [string, string])[]): Promise<string> {
  let text = source
  for (const [from, to] of changes) {
    assert.ok(text.includes(from), from)
    text = text.replace(from, to)
  }
  const file = join(home, `${name}.ts`)
  await writeFile(file, text)
  return file
}

before(async () => {
  // Within the project, so that the apps find Hence.
  await mkdir(join(root, 'data'), { recursive: true })
  home = await mkdtemp(join(root, 'data/check-'))
  data = join(home, 'data')
  const refuses = () => {
    throw new Error('no such address')
  }
  const handlers = { mail: refuses, charge: () => ({ paid: true }) } as never
  const app = await changed('old')
  const engine = await createEngine({ app, data, partitions: 2, report: () => {}, handlers })
  const all = Array.from({ length: orders }, (_, i) =>
    engine.submit('place', { order: `o${i}`, qty: `${i % 10}` } as never, { requestId: `r${i}` }),
  )
  for (const [i, text] of ['short', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!'].entries())
    all.push(engine.submit('open', { shop: 's', text } as never, { requestId: `s${i}` }))
  await Promise.all(all)
  await engine.idle()
  while ((await engine.effects.list({ state: 'done', limit: 1_000 })).length < orders / 10) {
    await new Promise((resolve) => setImmediate(resolve))
  }
  await engine.close()
})

after(() => rm(home, { recursive: true, force: true }))

const counts = (schemas: readonly SchemaFit[]) =>
  Object.fromEntries(
    schemas.map(({ kind, name, compared, misfits }) => [`${kind} ${name}`, [compared, misfits]]),
  )

const tenth = orders / 10

test('the code that wrote everything fits, and a busy key is a note', async () => {
  const same = await dryRun({ data, app: await changed('same') })
  assert.deepEqual(counts(same.schemas), {
    'effect mail': [tenth, 0],
    'event ordered': [orders, 0],
    'request open': [2, 0],
    'request place': [orders, 0],
    'result charge': [tenth, 0],
    'row counted': [1, 0],
    'row days': [tenth, 0],
    'row orders': [orders, 0],
    'timer remind': [2 * tenth, 0],
  })
  assert.deepEqual(same.busyKeys, [
    { kind: 'event', type: 'ordered', key: 'shop', count: orders, of: orders },
  ])
  const printed = await hence(['check', join(home, 'same.ts'), '--data', data])
  assert.equal(printed.code, 0, printed.stderr)
  assert.match(printed.stderr, /All \d+ events "ordered" have the partition key "shop"/)
  assert.match(printed.stderr, /records can be read, and were derived/)
})

test('whatever does not fit is counted and shown, in a directory and in a backup', async () => {
  const app = await changed(
    'narrow',
    [
      "unit: z.string().default('piece') }",
      "unit: z.string().default('piece'), gift: z.boolean().default(false) }",
    ],
    ['value: z.object({ qty: z.int() })', 'value: z.object({ qty: z.int().max(8) })'],
    ['value: z.object({ text: z.string() })', 'value: z.object({ text: z.enum(["b"]) })'],
    [
      'data: z.object({ shop: z.string(), qty: z.int() })',
      'data: z.object({ shop: z.string(), qty: z.int().min(5) })',
    ],
    ['data: z.object({ order: z.string() })', 'data: z.object({ order: z.number() })'],
    ['z.object({ to: z.string() })', 'z.object({ to: z.email() })'],
    ['result: z.object({ paid: z.boolean() })', 'result: z.object({ paid: z.string() })'],
  )
  const copy = join(home, 'copy')
  await backup({ data, to: copy })
  for (const from of [data, copy]) {
    const printed = await hence(['check', app, '--data', from, '--json'])
    assert.equal(printed.code, 8, printed.stderr)
    const { schemas, diff } = JSON.parse(printed.stdout)
    assert.ok(diff.sha256, 'both were derived all the same')
    assert.deepEqual(counts(schemas), {
      'effect mail': [tenth, tenth],
      'event ordered': [orders, orders / 2],
      'request open': [2, 0],
      'request place': [orders, orders],
      'result charge': [tenth, tenth],
      'row counted': [1, 0],
      'row days': [tenth, tenth],
      'row orders': [orders, tenth],
      'timer remind': [2 * tenth, 2 * tenth],
    })
    const sampleOf = (name: string) => (schemas as SchemaFit[]).find((each) => each.name === name)!.samples
    assert.equal(sampleOf('place').length, 5)
    assert.match(sampleOf('place')[0]!.at, /^[01]:\d+$/)
    assert.match(sampleOf('place')[0]!.issues, /^gift: the schema would set or change it/)
    assert.match(sampleOf('days')[0]!.at, /^\["o\d+",3\]$/)
    assert.match(sampleOf('days')[0]!.issues, /^text: Invalid input/)
    assert.match(sampleOf('charge')[0]!.issues, /^paid: Invalid input/)
  }
  const printed = await hence(['check', app, '--data', data])
  assert.match(
    printed.stderr,
    /800 of 800 requests "place" do not fit the new schema:\n {4}[01]:\d+ {2}gift: /,
  )
  assert.match(printed.stderr, /80 of 800 rows of table "orders" do not fit the new schema:/)
  assert.doesNotMatch(printed.stderr, /can be read/)
  const allowed = (...kinds: string[]) => hence(['check', app, '--data', data, '--allow-misfits', ...kinds])
  assert.equal((await allowed('all')).code, 0)
  assert.equal((await allowed('row', 'request')).code, 8)
})

test('an upcaster serves, or is named', async () => {
  const to = (upcaster: string) =>
    [
      ["'place', {", `'place', { version: 2, upcast: { 1: ${upcaster} },`],
      ["unit: z.string().default('piece') }", 'unit: z.string(), gift: z.boolean() }'],
    ] as const
  const good = await changed('good', ...to('(older) => ({ ...older, gift: false })'))
  assert.deepEqual(counts((await check({ data, app: good })).schemas)['request place'], [orders, orders])
  const whole = await changed('whole', ...to('(older) => ({ ...older, gift: false })'), [
    'qty: z.string().transform(Number)',
    'qty: z.number()',
  ])
  assert.deepEqual(counts((await check({ data, app: whole })).schemas)['request place'], [orders, 0])
  const throws = await changed('throws', ...to('() => { throw new Error("no gift") }'))
  const place = (await check({ data, app: throws })).schemas.find(({ name }) => name === 'place')!
  assert.deepEqual([place.misfits, place.samples[0]!.issues], [orders, 'Error: no gift'])
})

test('a schema that does not end costs one value, and a type at most three', async () => {
  const app = await changed(
    'endless',
    ['text: z.string() }),\n  key', 'text: z.string().regex(/^(a+)+$/) }),\n  key'],
    ['value: z.object({ n: z.int() })', 'value: z.object({ n: z.int().refine(() => { for (;;); }) })'],
    ['qty: z.string().transform(Number)', 'qty: z.number().refine(() => { for (;;); })'],
  )
  const printed = await hence(['check', app, '--data', data, '--json'])
  assert.equal(printed.code, 8, printed.stderr)
  const { schemas } = JSON.parse(printed.stdout) as { schemas: SchemaFit[] }
  // All is read, and the last values are still to be compared.
  const stop = new AbortController()
  const reason = new Error('enough')
  const progress = ({ done, total }: OfflineProgress) => {
    if (done === total) stop.abort(reason)
  }
  await assert.rejects(check({ data, app, signal: stop.signal, progress }), reason)
  const found = counts(schemas)
  assert.deepEqual(
    [found['request open'], found['row counted'], found['request place']],
    [
      [2, 2],
      [1, 1],
      [3, 3],
    ],
  )
  assert.deepEqual(
    [found['event ordered'], found['row orders']],
    [
      [orders, 0],
      [orders, 0],
    ],
  )
  const place = schemas.find(({ name }) => name === 'place')!
  assert.equal(place.stopped, true)
  assert.match(place.samples[0]!.issues, /took more than 1000 ms/)
})

test('events that stay in their partition are compared too, in the version in which they were emitted', async () => {
  const narrow = [
    'data: z.object({ shop: z.string(), qty: z.int() })',
    'data: z.object({ shop: z.string(), qty: z.int().min(5) })',
  ] as const
  const mended = [
    ["shop.event('ordered', {", "shop.event('ordered', { version: 2, upcast: { 1: (old: any) => old },"],
    narrow,
  ] as const
  const mends = [
    "shop.event('ordered', {",
    "shop.event('ordered', { version: 2, upcast: { 1: (old: any) => ({ ...old, qty: 5 + old.qty }) },",
  ] as const
  const seen = []
  for (const partitions of [1, 2, 8]) {
    const data = join(home, `stay-${partitions}`)
    for (const [name, of] of [
      ['stay', []],
      ['stays', mended],
    ] as const) {
      const app = await changed(name, ...of)
      const onCodeChange = 'continue'
      const engine = await createEngine({ app, data, partitions, onCodeChange, report: () => {} })
      for (let i = 0; i < 10; i++) {
        const input = { order: `${name}${i}`, qty: `${i}` }
        await engine.submit('place', input as never, { requestId: `${name}${i}` })
      }
      await engine.close()
    }
    const schemas = async (...changes: readonly (readonly [string, string])[]) =>
      (await dryRun({ data, app: await changed('stayed', ...changes) })).schemas
        .filter(({ kind, name }) => kind === 'event' && name === 'ordered')
        .map(({ version, compared, misfits }) => [version, compared, misfits])
    seen.push([await schemas(...mended), await schemas(mends, narrow)])
  }
  const expected = [
    [
      [1, 10, 5],
      [2, 10, 5],
    ],
    [
      [1, 10, 0],
      [2, 10, 5],
    ],
  ]
  assert.deepEqual(seen, [expected, expected, expected])
})

test('a signal stops it while rows are compared', async () => {
  const stop = new AbortController()
  const reason = new Error('enough')
  const progress = ({ step }: { step: string }) => step === 'compare' && stop.abort(reason)
  const app = join(home, 'old.ts')
  await assert.rejects(dryRun({ data, app, progress, signal: stop.signal }), reason)
})

test('a busy key is found among many, where the new code computes it', async () => {
  const app = await changed('busy', [
    'key: (input) => input.order',
    "key: ({ qty, order }) => qty < 6 ? 'most' : order",
  ])
  const { busyKeys } = await check({ data, app })
  assert.deepEqual(
    busyKeys.map(({ type }) => type).sort(),
    ['ordered', 'place'],
    'of "open" there are too few',
  )
  const most = busyKeys.find(({ type }) => type === 'place')!
  assert.deepEqual([most.key, most.of], ['most', orders])
  assert.ok(most.count > orders / 2 && most.count <= 0.6 * orders, String(most.count))
})

test('after a promotion the rows are those of the generation that is live', async () => {
  const promoted = join(home, 'promoted')
  const engine = await createEngine({ app: join(home, 'old.ts'), data: promoted, report: () => {} })
  await engine.submit('place', { order: 'o', qty: '1' } as never, { requestId: 'r' })
  const { reprocessing } = engine
  await reprocessing.start({
    app: await changed('more', ['tx.put(rows, { qty })', 'tx.put(rows, { qty: 99 })']),
  })
  const { sha256 } = await reprocessing.diff()
  await reprocessing.promote({ diff: sha256 }, { requestId: 'p' })
  await engine.close()
  const app = await changed('least', [
    'value: z.object({ qty: z.int() })',
    'value: z.object({ qty: z.int().max(50) })',
  ])
  const { schemas } = await dryRun({ data: promoted, app })
  assert.deepEqual(counts(schemas)['row orders'], [1, 1])
})

test('of each request it says whose verdict it waits for', async () => {
  const app = join(home, 'judged.ts')
  const text = `
import { app, scopes } from 'hence'
import { z } from 'zod'
const [stay, room, guest] = scopes('stay', 'room', 'guest')
const beds = room.capacity('beds', { limit: 9, mode: 'strict' })
const gifts = guest.capacity('gifts', { limit: 9, mode: 'loose' })
const own = stay.capacity('own', { limit: 9, mode: 'strict' })
const input = z.object({ stay: z.string(), gift: z.boolean().default(false) })
const key = (input) => input.stay
const book = stay.request('book', {
  input,
  key,
  claims: ({ stay, gift }) => [beds.claim('r'), own.claim(stay), ...(gift ? [gifts.claim('g')] : [])],
  derive() {},
  compensate() {},
})
const note = stay.request('note', { input, key, derive() {} })
const close = stay.request('close', { input, key, derive() {} })
export default app('judged', { requests: [book, note, close], tables: [], constraints: [beds, gifts, own] })
`
  await writeFile(app, text)
  const data = join(home, 'judged')
  const engine = await createEngine({ app, data, report: () => {} })
  for (const [n, gift] of [true, false, false].entries())
    await engine.submit('book' as never, { stay: 's', gift } as never, { requestId: `b-${n}` })
  await engine.submit('note' as never, { stay: 's' } as never, { requestId: 'n-1' })
  await engine.close()
  assert.deepEqual((await check({ data, app })).judges, [
    {
      type: 'book',
      of: 3,
      judges: [
        { constraint: 'beds', scope: 'room', mode: 'strict', count: 3 },
        { constraint: 'gifts', scope: 'guest', mode: 'loose', count: 1 },
      ],
    },
    { type: 'close', of: 0, judges: [] },
    { type: 'note', of: 1, judges: [] },
  ])
  const { stderr } = await hence(['check', app, '--data', data])
  assert.match(
    stderr,
    /Request "book" waits for "beds", which keys of "room" judge \(3 of 3\): .*202, or 503/,
  )
  assert.match(stderr, /claims "gifts", which keys of "guest" judge \(1 of 3\), and goes on/)
  assert.match(stderr, /Request "note" waits for no other key/)
  assert.match(stderr, /Request "close": there is none in the log/)
})

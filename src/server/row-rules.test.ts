import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Alarm, type App, app, scopes } from 'hence'
import { z } from 'zod'
import { type Served, serveNotes } from '../../test/server/serve.ts'

// Two people, one engine: neither learns anything about the other's rows, however they read.

interface Page {
  readonly rows: readonly { readonly key: readonly unknown[]; readonly value: { readonly text: string } }[]
  readonly cursor?: string
}

const secret = /secret of/

/** Ada's even and Bob's odd numbers. Each has the index entries of `byOwner` and `byOwnerAndStars`. */
async function fill({ engine }: Served, count: number): Promise<void> {
  await Promise.all(
    Array.from({ length: count }, (_, number) => {
      const owner = number % 2 === 0 ? 'ada' : 'bob'
      const input = { owner, number, text: `secret of ${owner} ${number}`, stars: number % 5 }
      return engine.submit('write', input, { requestId: `fill-${number}` })
    }),
  )
  await engine.idle()
}

async function pageOf({ call }: Served, who: string, query: string): Promise<Page> {
  const response = await call(who, `/tables/notes?${query}`)
  assert.equal(response.status, 200, query)
  return (await response.json()) as Page
}

async function codeOf(response: Response): Promise<[status: number, code: string | undefined]> {
  const { code } = (await response.json()) as { code?: string }
  return [response.status, code]
}

const json = (parts: unknown) => encodeURIComponent(JSON.stringify(parts))

/** Queries in which Bob's rows are one range, for Bob. */
const served: readonly string[] = [
  '',
  'reverse=true',
  'index=byOwner',
  'index=byOwner&reverse=true',
  'index=byOwnerAndStars',
  `index=byOwner&prefix=${json(['bob'])}`,
  `index=byOwnerAndStars&prefix=${json(['bob', 3])}`,
  `index=byOwnerAndStars&prefix=${json(['bob'])}&from=${json([2])}&to=${json([4])}`,
  `prefix=${json(['bob'])}`,
  `prefix=${json(['bob'])}&from=${json([9])}&to=${json([30])}`,
  `from=${json(['bob', 9])}`,
  `to=${json(['bob', 30])}&reverse=true`,
]

/** Queries that ask for rows of Ada only. */
const empty: readonly string[] = [
  `prefix=${json(['ada'])}`,
  `prefix=${json(['ada', 4])}`,
  `prefix=${json(['ada'])}&from=${json([0])}&to=${json([1000])}`,
  `index=byOwner&prefix=${json(['ada'])}`,
  `index=byOwnerAndStars&prefix=${json(['ada', 3])}`,
  `to=${json(['b'])}`,
  `from=${json(['c'])}`,
]

/** Queries in whose order the rows of one reader are scattered. */
const refused: readonly [query: string, code: string][] = [
  ['index=byStars', 'not-allowed'],
  [`index=byStars&prefix=${json([3])}`, 'not-allowed'],
  [`index=byStars&prefix=${json([3, 'bob'])}`, 'not-allowed'],
  [`index=byOwner&from=${json(['a'])}&to=${json(['b'])}`, 'query-invalid'],
  ['index=none', 'not-allowed'],
]

test('a reader with a rule gets the rows of a full reader that are theirs, in the same order', async (t) => {
  const notes = await serveNotes(t)
  await fill(notes, 60)
  for (const query of served) {
    const whole = await pageOf(notes, 'reader', query)
    const own = whole.rows.filter(({ key }) => key[0] === 'bob')
    assert.ok(own.length > 0, query)
    for (const limit of [1, 4, 1_000]) {
      const found: Page['rows'][] = []
      let cursor = ''
      for (;;) {
        const page = await pageOf(notes, 'bob', `limit=${limit}&${query}${cursor}`)
        found.push(page.rows)
        if (page.cursor === undefined) break
        cursor = `&cursor=${page.cursor}`
      }
      assert.deepEqual(found.flat(), own, query)
      // Full pages, and no cursor behind the last row: nothing hints at rows between or behind.
      for (const rows of found.slice(0, -1)) assert.equal(rows.length, limit)
      assert.equal(found.length, Math.ceil(own.length / limit), query)
    }
  }
})

test('no read of a reader with a rule walks a hidden row, whatever range is asked for', async (t) => {
  const notes = await serveNotes(t)
  await fill(notes, 4_000)
  const { engine } = notes
  const scan = engine.scan.bind(engine)
  const walked: { key: readonly unknown[] }[] = []
  engine.scan = (async (...args: Parameters<typeof scan>) => {
    const rows = await scan(...args)
    walked.push(...(rows as never as typeof walked))
    return rows
  }) as never
  const { cursor } = await pageOf(notes, 'bob', 'limit=4')
  for (const query of [...served, ...empty]) await pageOf(notes, 'bob', `${query}&limit=1000`)
  for (const query of empty) assert.deepEqual(await pageOf(notes, 'bob', query), { rows: [] }, query)
  for (const [query, code] of refused) {
    const status = code === 'not-allowed' ? 403 : 400
    assert.deepEqual(await codeOf(await notes.call('bob', `/tables/notes?${query}`)), [status, code], query)
  }
  // Positions of Ada's rows, and of ranges that reach them.
  for (const position of [['ada', 'ada', 4], ['ada', 4], ['a'], [], ['bob'], ['bob', 'ada', 4], ['zoe']]) {
    const forged = Buffer.from(JSON.stringify(position)).toString('base64url')
    const response = await notes.call('bob', `/tables/notes?limit=1000&cursor=${forged}`)
    await response.body?.cancel()
  }
  assert.equal((await notes.call('ada', `/tables/notes?limit=4&cursor=${cursor}`)).status, 400)
  assert.ok(walked.length > 1_000)
  assert.deepEqual([...new Set(walked.map(({ key }) => key[0]))], ['bob'])
})

test('hidden and missing rows look the same', async (t) => {
  const notes = await serveNotes(t)
  await fill(notes, 4)
  const other = await notes.call('bob', '/tables/notes/ada/0')
  const missing = await notes.call('bob', '/tables/notes/ada/999')
  assert.equal(other.status, 404)
  const [a, b] = [await other.text(), await missing.text()]
  assert.equal(a.replace(',0]', ''), b.replace(',999]', ''))
  assert.doesNotMatch(a, secret)
  assert.equal((await notes.call('bob', '/tables/notes/bob/1')).status, 200)
})

test('a rule on the partition key serves scans in the order of the key', async (t) => {
  const notes = await serveNotes(t)
  for (const [i, to] of ['ada', 'bob', 'bob', 'cleo'].entries()) {
    await notes.submit('admin', 'send', `s${i}`, { from: 'zoe', to, text: '' })
  }
  await notes.engine.idle()
  const keys = async (query: string) => {
    const { rows } = (await (await notes.call('bob', `/tables/inbox?${query}`)).json()) as Page
    return rows.map(({ key }) => key)
  }
  const own = [
    ['bob', 's1'],
    ['bob', 's2'],
  ]
  assert.deepEqual(await keys(''), own)
  assert.deepEqual(await keys('reverse=true'), own.toReversed())
  assert.deepEqual(await keys(`prefix=${json(['bob'])}&from=${json(['s2'])}`), own.slice(1))
  assert.deepEqual(await keys(`prefix=${json(['ada'])}`), [])
  assert.equal((await notes.call('bob', `/tables/inbox?from=${json(['a'])}`)).status, 400)
})

test('a function of the row serves reads of single keys only', async (t) => {
  const notes = await serveNotes(t)
  await notes.submit('admin', 'feel', 'f1', { owner: 'ada', mood: 'good' })
  assert.equal((await notes.call('ada', '/tables/moods/ada')).status, 200)
  for (const path of ['/tables/moods', `/tables/moods?prefix=${json(['ada'])}`, '/changes?table=moods']) {
    assert.deepEqual(await codeOf(await notes.call('ada', path)), [403, 'not-allowed'], path)
    const all = await notes.call('reader', path)
    await all.body?.cancel()
    assert.equal(all.status, 200, path)
  }
})

test('a rule that throws hides the row and is reported, without the row', async (t) => {
  const notes = await serveNotes(t)
  await notes.submit('admin', 'feel', 'f1', { owner: 'bob', mood: 'bad' })
  assert.equal((await notes.call('ada', '/tables/moods/bob')).status, 404)
  const { alarms } = (await (await notes.call('operator', '/status')).json()) as { alarms: readonly Alarm[] }
  assert.deepEqual(
    alarms.map(({ code, count }) => [code, count]),
    [['read-rule-threw', 1]],
  )
  const reports = notes.reports.filter(({ code }) => code === 'read-rule-threw')
  assert.equal(reports.length, 1)
  assert.doesNotMatch(reports[0]!.message, /"bad"/)
})

test('a rule that does not end is ended, refused and reported, and others are served', async (t) => {
  const notes = await serveNotes(t)
  await notes.submit('admin', 'feel', 'f1', { owner: 'bob', mood: 'endless' })
  await notes.submit('admin', 'feel', 'f2', { owner: 'ada', mood: 'good' })
  const endless = notes.call('ada', '/tables/moods/bob')
  assert.equal((await notes.call('ada', '/tables/moods/ada')).status, 200)
  assert.deepEqual(await codeOf(await endless), [500, 'read-rule-too-long'])
  assert.deepEqual(
    notes.reports.map(({ code }) => code),
    ['read-rule-too-long'],
  )
  assert.equal((await notes.call('ada', '/tables/moods/ada')).status, 200)
})

test('an app with an invalid rule is refused', () => {
  const [box] = scopes('box')
  const value = z.object({ owner: z.string() })
  const withRule = (read: never): App =>
    app('boxes', {
      requests: [],
      tables: [box.table('boxes', { value, indexes: { byOwner: ['owner'] }, read })],
    })
  const equals = () => 'x'
  for (const read of ['nobody', {}, { index: 'byOwner' }, { index: 'byName', equals }, null, 1]) {
    assert.throws(() => withRule(read as never), { code: 'app-invalid' }, JSON.stringify(read))
  }
  for (const read of ['everybody', { index: 'byOwner', equals }, { equals }, () => true, undefined]) {
    withRule(read as never)
  }
})

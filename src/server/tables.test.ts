import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Served, serveNotes } from '../../test/server/serve.ts'

type Json = Record<string, never> & { rows: { key: unknown[]; value: { text: string } }[]; cursor?: string }

/** Notes of ada and bob in turn: ada has the even numbers. */
async function fill({ submit, engine }: Served, count: number): Promise<void> {
  for (let number = 0; number < count; number++) {
    const owner = number % 2 === 0 ? 'ada' : 'bob'
    const input = { owner, number, text: `secret of ${owner} ${number}`, stars: number % 5 }
    assert.equal((await submit('admin', 'write', `fill-${number}`, input)).status, 200)
  }
  await engine.idle()
}

async function pages({ call }: Served, who: string, path: string): Promise<Json['rows'][]> {
  const found: Json['rows'][] = []
  let cursor: string | undefined
  do {
    const response = await call(who, cursor === undefined ? path : `${path}&cursor=${cursor}`)
    assert.equal(response.status, 200)
    const page = (await response.json()) as Json
    found.push(page.rows)
    cursor = page.cursor
  } while (cursor !== undefined)
  return found
}

test('pages together equal one scan: forwards, backwards, by key, by index, with a prefix', async (t) => {
  const served = await serveNotes(t)
  await fill(served, 23)
  for (const query of [
    {},
    { reverse: true },
    { index: 'byStars' },
    { index: 'byStars', reverse: true },
    { prefix: ['ada'] },
    { prefix: ['bob'], from: [5], to: [16] },
    { prefix: ['bob'], from: [5], to: [16], reverse: true },
    { index: 'byStars', prefix: [3] },
    { index: 'byStars', from: [1], to: [4], reverse: true },
    { index: 'byStars', prefix: [3, 'bob'] },
    { prefix: ['ada', 4] },
  ]) {
    const whole = await served.engine.scan('notes', query as never)
    const params = Object.entries(query).map(
      ([name, value]) =>
        `${name}=${encodeURIComponent(typeof value === 'string' ? value : JSON.stringify(value))}`,
    )
    for (const limit of [1, 4, 7, 100]) {
      const found = await pages(served, 'reader', `/tables/notes?${[`limit=${limit}`, ...params].join('&')}`)
      assert.deepEqual(found.flat(), whole, JSON.stringify(query))
      for (const rows of found.slice(0, -1)) assert.equal(rows.length, limit)
    }
  }
})

test('a story shows its sender the rows that are theirs, and others nothing', async (t) => {
  const served = await serveNotes(t, { partitions: 4 })
  const sent = await served.submit('ada', 'send', 's1', { from: 'ada', to: 'bob', text: 'secret of ada' })
  const { token } = (await sent.json()) as { token: string }
  await served.engine.idle()
  assert.equal((await served.call('bob', '/requests/s1')).status, 404, 'ids are scoped by principal')
  assert.equal((await served.call('bob', '/requests/s1?principal=ada')).status, 403)
  const own = (await (await served.call('ada', '/requests/s1')).json()) as { steps: Record<string, never>[] }
  assert.equal((own as never as { token: string }).token, token)
  assert.deepEqual(
    own.steps.flatMap(({ changes }) => changes),
    [],
    'the row stands in the inbox of bob',
  )
  assert.deepEqual(own.steps[0]!['events'], [{ type: 'sent' }])
  const all = await (await served.call('reader', '/requests/s1?principal=ada')).text()
  assert.match(all, /"table":"inbox"/)
  // Bob reads it himself, by his own rule.
  assert.equal((await served.call('bob', `/tables/inbox/bob/s1?after=${token}`)).status, 200)
})

test('ETag: a reader who has the answer already gets 304', async (t) => {
  const served = await serveNotes(t)
  await fill(served, 3)
  for (const path of ['/tables/notes/ada/0', '/tables/notes?limit=2', '/requests/fill-0', '/openapi.json']) {
    const first = await served.call('admin', path)
    const etag = first.headers.get('etag')!
    assert.match(etag, /^"[\w-]{22}"$/)
    for (const given of [etag, `W/${etag}`, `"x", ${etag}`, '*']) {
      const again = await served.call('admin', path, { headers: { 'if-none-match': given } })
      assert.equal(again.status, 304, `${path} ${given}`)
      assert.equal(await again.text(), '')
    }
    assert.equal((await served.call('admin', path, { headers: { 'if-none-match': '"x"' } })).status, 200)
  }
})

test('keys are decoded part by part: slashes, percent signs, spaces, text of other scripts', async (t) => {
  const served = await serveNotes(t)
  for (const [i, owner] of ['a/b', '100%', 'a b', 'ä😀', '%2F', 'a?b#c', '+'].entries()) {
    await served.submit('admin', 'write', `k${i}`, { owner, number: 1, text: owner })
    const response = await served.call('reader', `/tables/notes/${encodeURIComponent(owner)}/1`)
    assert.deepEqual(((await response.json()) as { key: unknown }).key, [owner, 1])
  }
  for (const path of ['/tables/notes/a/x', '/tables/notes/a/', '/tables/notes/a', '/tables/notes/a/1/2']) {
    const response = await served.call('reader', path)
    assert.equal(response.status, 422, path)
    assert.equal(((await response.json()) as { code: string }).code, 'key-invalid')
  }
  assert.equal((await served.call('reader', '/tables/notes/%ff/1')).status, 400)
  assert.equal((await served.call('reader', '/tables/notes?index=%ff')).status, 400)
  assert.equal((await served.call('reader', '/requests/r?principal=%ff')).status, 400)
})

test('a number in a path is not rounded to that of another row', async (t) => {
  const served = await serveNotes(t)
  const status = async (part: string) => (await served.call('reader', `/tables/notes/a/${part}`)).status
  for (const [i, number] of [2 ** 53 - 1, 7].entries()) {
    await served.submit('admin', 'write', `n${i}`, { owner: 'a', number, text: '' })
  }
  for (const part of ['9007199254740991', '7', '7.0', '70e-1']) assert.equal(await status(part), 200, part)
  for (const part of ['9007199254740993', '9007199254740993.0', '07', '-07']) {
    assert.equal(await status(part), 422, part)
  }
  // As Hence writes them.
  for (const number of [2 ** 53, 2 ** 60, 1e21, -1e300]) assert.equal(await status(String(number)), 404)
})

test('rows as they were: page by page, with the rules of the caller, and not too far back', async (t) => {
  const served = await serveNotes(t, { partitions: 4 })
  await fill(served, 23)
  const then = await served.engine.scan('notes')
  const last = await served.submit('admin', 'feel', 'f1', { owner: 'ada', mood: 'good' })
  const at = last.headers.get('hence-token')!
  const input = { owner: 'ada', number: 99, text: 'later' }
  await served.submit('admin', 'write', 'later', input)
  await served.submit('admin', 'feel', 'f2', { owner: 'ada', mood: 'bad' })
  await served.engine.idle()
  assert.deepEqual((await pages(served, 'reader', `/tables/notes?at=${at}&limit=5`)).flat(), then)
  const own = then.filter(({ key }) => key[0] === 'ada')
  assert.deepEqual((await pages(served, 'ada', `/tables/notes?at=${at}&limit=5`)).flat(), own)
  const status = async (who: string, path: string) => (await served.call(who, path)).status
  assert.equal(await status('ada', '/tables/moods/ada'), 404, 'the rule of this row throws now')
  assert.equal(await status('ada', `/tables/moods/ada?at=${at}`), 200)
  assert.equal(await status('bob', `/tables/notes/ada/0?at=${at}`), 404)
  assert.equal(await status('ada', `/tables/notes/ada/99?at=${at}`), 404)
  const code = async (path: string) => {
    const response = await served.call('admin', path)
    return [response.status, ((await response.json()) as { code: string }).code]
  }
  assert.deepEqual(await code('/tables/notes?at=0:99'), [410, 'position-unknown'])
  assert.deepEqual(await code('/tables/hence.violations?at=1'), [400, 'query-invalid'])
  const { past } = (await (await served.call('reader', '/me')).json()) as {
    past: { since: number; until: number }
  }
  assert.ok(past.since > 0 && past.since <= past.until)
  assert.equal(((await (await served.call('ada', '/me')).json()) as { past?: object }).past, undefined)

  const long = 'x'.repeat(1_000_000)
  for (let n = 0; n < 20; n++)
    await served.submit('admin', 'feel', `long${n}`, { owner: 'ada', mood: long + n })
  assert.deepEqual(await code(`/tables/moods/ada?at=${at}`), [422, 'past-too-far'])
  assert.equal(await status('admin', `/tables/notes?at=${at}`), 200)
})

test('invalid queries are refused', async (t) => {
  const { call } = await serveNotes(t)
  for (const query of [
    'limit=0',
    'limit=1001',
    'limit=x',
    'limit=-1',
    'prefix=x',
    'prefix={}',
    'prefix=[null]',
    'prefix=["a",1,2]',
    'reverse=1',
    'index=none',
    'nope=1',
    'from=[[]]',
    'prefix=["a","b"]',
    'after=x',
    'after=0:99',
    'cursor=',
  ]) {
    const response = await call('reader', `/tables/notes?${query}`)
    assert.equal(response.status, 400, query)
    assert.equal(response.headers.get('content-type'), 'application/problem+json')
  }
  assert.equal((await call('reader', '/tables/none')).status, 404)
})

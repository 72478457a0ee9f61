import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { serveNotes } from '../../test/server/serve.ts'

// The log over HTTP: pages by offset, filters, and one record with its bytes.

const note = (number: number) => ({ owner: 'ada', number, text: 'x' })

interface Page {
  readonly from: number
  readonly next: number
  readonly end: number
  readonly records: readonly {
    token: string
    at: number
    kind: string
    type?: string
    outcome?: string
    reason?: string
  }[]
}

test('pages of the log go from one to the next, and say what became of each request', async (t) => {
  const { call, submit } = await serveNotes(t)
  for (let n = 0; n < 5; n++) await submit('ada', 'write', `n${n}`, note(n))
  // The same note again under another id is rejected.
  assert.equal((await submit('ada', 'write', 'again', note(0))).status, 409)
  const read = async (query: string) => (await (await call('reader', `/log?${query}`)).json()) as Page

  const all: string[] = []
  for (let from = 0; ; ) {
    const page = await read(`from=${from}&limit=2`)
    assert.equal(page.from, from)
    assert.ok(page.records.length <= 2)
    all.push(...page.records.map(({ token }) => token))
    if (page.next === page.end) break
    from = page.next
  }
  assert.deepEqual(
    all,
    Array.from({ length: all.length }, (_, i) => `0:${i}`),
  )

  const [last] = (await read('outcome=rejected')).records
  assert.deepEqual([last?.type, last?.outcome, last?.reason], ['write', 'rejected', 'note-exists'])
  assert.equal((await read('type=write&principal=ada&outcome=accepted')).records.length, 5)
  assert.equal((await read('principal=bob')).records.length, 0)
  assert.equal((await read('where=number=3')).records.length, 1)
  assert.equal((await read('where=owner=ada')).records.length, 6)
  assert.equal((await read('where=owner=ad')).records.length, 0)
  assert.equal((await read('where=kind=request')).records.length, 6)
  assert.equal((await call('reader', '/log?where=owner')).status, 400)
  const times = (await read('limit=1000')).records.map(({ at }) => at)
  for (const at of times) {
    const { from, records } = await read(`since=${at}`)
    assert.deepEqual([from, records.length], [times.indexOf(at), times.length - times.indexOf(at)])
  }
  assert.equal((await read(`since=${times.at(-1)! + 1}`)).records.length, 0)
  assert.equal((await read(`since=0&from=3&limit=1`)).from, 3)
  const beyond = await read('from=999999')
  assert.deepEqual([beyond.records, beyond.from, beyond.next], [[], beyond.end, beyond.end])
  assert.deepEqual((await read('partition=7')).records, [], 'a partition that is not there')
})

test('a record comes with its bytes, and the hash of its leaf is that of a receipt', async (t) => {
  const { call, submit } = await serveNotes(t)
  const { token } = (await (await submit('ada', 'write', 'n1', note(1))).json()) as { token: string }
  const record = (await (await call('reader', `/log/${token}`)).json()) as {
    size: number
    bytes: string
    hashes: { leaf: string }
    input: unknown
  }
  const bytes = Buffer.from(record.bytes, 'base64')
  assert.equal(bytes.length, record.size)
  assert.deepEqual(record.input, note(1))
  assert.ok(bytes.includes(JSON.stringify(note(1))))
  const leaf = createHash('sha256')
    .update(Buffer.from([0]))
    .update(bytes)
    .digest('hex')
  assert.equal(record.hashes.leaf, leaf)
  for (const none of ['0:99', '9:0', 'x'])
    assert.equal((await call('reader', `/log/${none}`)).status, 404, none)
})

test('the records of a partition key are found in its partition: requests, events and what they set off', async (t) => {
  const served = await serveNotes(t, { partitions: 4 })
  const { call, submit, engine } = served
  const count = 600
  await Promise.all(
    Array.from({ length: count }, (_, n) =>
      engine.submit(
        'write',
        { owner: `o${n % 9}`, number: n, text: 'x', stars: 0 },
        { requestId: `w${n}`, principal: 'p' },
      ),
    ),
  )
  await submit('admin', 'send', 's', { from: 'o1', to: 'o2', text: 'hello' })
  await engine.idle()
  const read = async (key: string) => {
    const tokens: string[] = []
    for (let from = 0; ; ) {
      const page = (await (await call('reader', `/log?key=${key}&from=${from}&limit=50`)).json()) as Page
      tokens.push(...page.records.map(({ token }) => token))
      if (page.next === page.end) return tokens.sort()
      from = page.next
    }
  }
  // The stories of all requests have the same.
  const expected = new Map<string, Set<string>>()
  const ids = [...Array.from({ length: count }, (_, n) => [`w${n}`, 'p']), ['s', 'admin']] as [
    string,
    string,
  ][]
  for (const [id, principal] of ids) {
    for (const { key = '', token } of (await engine.story(id, { principal }))!.steps) {
      if (!expected.has(key)) expected.set(key, new Set())
      expected.get(key)!.add(token)
    }
  }
  for (const key of ['o1', 'o2', 'o8', 'all'])
    assert.deepEqual(await read(key), [...expected.get(key)!].sort(), key)
  assert.deepEqual(await read('nobody'), [])
})

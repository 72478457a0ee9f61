import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { request as nodeRequest } from 'node:http'
import { test } from 'node:test'
import { serveNotes } from '../server/serve.ts'

// Idempotency-Key, case by case: from draft-ietf-httpapi-idempotency-key-header-07 (the numbers are its
// sections), then from Stripe's documentation. A test says so where Hence differs on purpose.

const note = (number: number, text = 'x') => ({ owner: 'ada', number, text })
const uuid = () => randomUUID()

async function problem(response: Response, status: number, code: string): Promise<Record<string, unknown>> {
  assert.equal(response.status, status)
  assert.equal(response.headers.get('content-type'), 'application/problem+json')
  const told = (await response.json()) as Record<string, unknown>
  assert.equal(told['code'], code)
  assert.equal(told['status'], status)
  assert.equal(told['type'], `urn:hence:error:${code}`)
  for (const member of ['title', 'detail']) assert.equal(typeof told[member], 'string')
  assert.ok(['retry', 'change', 'operator'].includes(told['advice'] as string))
  return told
}

test('2.1: the key is a structured-field string', async (t) => {
  const { submit } = await serveNotes(t)
  let number = 0
  const good: readonly [header: string, id: string][] = [
    ['"8e03978e-40d5-43e8-bc93-6894a57f9324"', '8e03978e-40d5-43e8-bc93-6894a57f9324'],
    ['"a\\"b"', 'a"b'],
    ['"a\\\\b"', 'a\\b'],
    ['"x,y;z"', 'x,y;z'],
    // Unknown parameters are ignored (RFC 9651).
    ['"with-parameter";a=1', 'with-parameter'],
    ['  "spaces-around"  ', 'spaces-around'],
  ]
  for (const [header, id] of good) {
    const response = await submit('ada', 'write', header, note(number++))
    assert.equal(response.status, 200, header)
    assert.equal(((await response.json()) as { requestId: string }).requestId, id)
  }
  for (const header of ['"open', '"a" b', '"a", "b"', '""', '"a\\x"', `"${'x'.repeat(256)}"`, '"a b"']) {
    await problem(await submit('ada', 'write', header, note(number)), 400, 'request-id-invalid')
  }
})

test('2.1: the bare form, which most clients send, is accepted, and is the same id as the quoted one', async (t) => {
  const { submit } = await serveNotes(t)
  const id = uuid()
  assert.equal((await submit('ada', 'write', id, note(1))).status, 200)
  const again = await submit('ada', 'write', `"${id}"`, note(1))
  assert.equal(again.headers.get('idempotent-replayed'), 'true')
  for (const header of ['a b', 'a"b', 'x'.repeat(256)]) {
    await problem(await submit('ada', 'write', header, note(2)), 400, 'request-id-invalid')
  }
})

test('2.1: not more than one header in a request', async (t) => {
  const { url } = await serveNotes(t)
  for (const pair of [
    ['"one"', '"two"'],
    ['one', 'two'],
    ['"one"', '"one"'],
  ]) {
    const status = await new Promise<number>((resolve, reject) => {
      const sending = nodeRequest(
        `${url}/requests/write`,
        {
          method: 'POST',
          headers: { authorization: 'Test ada', 'content-type': 'application/json', 'idempotency-key': pair },
        },
        (response) => {
          response.resume()
          resolve(response.statusCode!)
        },
      )
      sending.on('error', reject)
      sending.end(JSON.stringify(note(1)))
    })
    assert.equal(status, 400, pair.join())
  }
})

test('2.2: a key must not be used for another payload: 422, and nothing changes', async (t) => {
  const { submit, engine } = await serveNotes(t)
  const id = uuid()
  assert.equal((await submit('ada', 'write', id, note(1, 'first'))).status, 200)
  const digest = await engine.digest()
  for (const other of [note(1, 'second'), note(2, 'first'), { ...note(1, 'first'), stars: 1 }]) {
    const told = await problem(await submit('ada', 'write', id, other), 422, 'request-id-reused')
    assert.equal(told['advice'], 'change')
  }
  await problem(await submit('ada', 'feel', id, { owner: 'ada', mood: 'x' }), 422, 'request-id-reused')
  assert.equal(await engine.digest(), digest)
  assert.equal(
    (await submit('ada', 'write', id, note(1, 'first'))).headers.get('idempotent-replayed'),
    'true',
  )
})

test('2.3: keys expire, and an expired key is never treated as new', async (t) => {
  const { submit } = await serveNotes(t)
  const uuid7 = (time: number) => {
    const hex = time.toString(16).padStart(12, '0')
    return `${hex.slice(0, 8)}-${hex.slice(8)}-7${uuid().slice(15)}`
  }
  const day = 24 * 60 * 60 * 1_000
  await problem(
    await submit('ada', 'write', uuid7(Date.now() - 31 * day), note(1)),
    410,
    'request-id-expired',
  )
  await problem(
    await submit('ada', 'write', uuid7(Date.now() + day), note(1)),
    422,
    'request-id-from-the-future',
  )
  assert.equal((await submit('ada', 'write', uuid7(Date.now() - 29 * day), note(1))).status, 200)
})

test('2.4: the fingerprint ignores white space and the order of members', async (t) => {
  const { submit } = await serveNotes(t)
  const id = uuid()
  assert.equal((await submit('ada', 'write', id, '{"owner":"ada","number":1,"text":"é"}')).status, 200)
  for (const same of [
    '{ "text" : "\\u00e9", "owner":"ada", "number": 1.0 }',
    '{"number":1e0,"text":"é","owner":"ada"}\n',
  ]) {
    assert.equal((await submit('ada', 'write', id, same)).headers.get('idempotent-replayed'), 'true', same)
  }
})

test('2.6: a retry after the first request finished gets its outcome, whatever it was', async (t) => {
  const { submit, engine } = await serveNotes(t)
  const wishes: readonly [type: string, input: unknown, status: number][] = [
    ['write', note(1), 200],
    ['write', note(1), 409],
    ['explode', { owner: 'ada' }, 500],
  ]
  for (const [type, input, status] of wishes) {
    const id = uuid()
    const first = await submit('ada', type, id, input)
    assert.equal(first.status, status)
    assert.equal(first.headers.get('idempotent-replayed'), null)
    const told = (await first.json()) as Record<string, unknown>
    const digest = await engine.digest()
    for (let i = 0; i < 3; i++) {
      const again = await submit('ada', type, id, input)
      assert.equal(again.status, status)
      assert.equal(again.headers.get('idempotent-replayed'), 'true')
      assert.equal(again.headers.get('hence-token'), first.headers.get('hence-token'))
      assert.deepEqual(await again.json(), { ...told, replayed: true })
    }
    assert.equal(await engine.digest(), digest)
  }
})

test('2.6: a concurrent retry. The draft answers 409; Hence attaches it to the first request, and both get the outcome', async (t) => {
  const { submit, engine } = await serveNotes(t)
  const id = uuid()
  const replies = await Promise.all(Array.from({ length: 50 }, () => submit('ada', 'write', id, note(1))))
  const told = (await Promise.all(replies.map((reply) => reply.json()))) as {
    replayed: boolean
    token: string
  }[]
  assert.ok(replies.every(({ status }) => status === 200))
  assert.equal(told.filter(({ replayed }) => !replayed).length, 1)
  assert.equal(new Set(told.map(({ token }) => token)).size, 1)
  assert.equal((await engine.get('totals', ['all']))?.notes, 1)
})

test('2.7: a missing key is 400 and says what to do', async (t) => {
  const { submit } = await serveNotes(t)
  for (const header of [undefined, '']) {
    const told = await problem(await submit('ada', 'write', header, note(1)), 400, 'request-id-missing')
    assert.match(told['detail'] as string, /Idempotency-Key/)
  }
})

test('5: a guessed key reveals nothing about another sender', async (t) => {
  const { submit } = await serveNotes(t)
  assert.equal((await submit('ada', 'send', 'guess', { from: 'ada', to: 'bob', text: '1' })).status, 200)
  const other = await submit('bob', 'send', 'guess', { from: 'bob', to: 'ada', text: '2' })
  assert.equal(other.status, 200, 'the id of another sender was used')
  assert.equal(other.headers.get('idempotent-replayed'), null)
})

test('Stripe: keys of up to 255 characters', async (t) => {
  const { submit } = await serveNotes(t)
  assert.equal((await submit('ada', 'write', 'k'.repeat(255), note(1))).status, 200)
  await problem(await submit('ada', 'write', 'k'.repeat(256), note(2)), 400, 'request-id-invalid')
})

test('Stripe: a validation error is not stored, so the same key may be sent again with a corrected input', async (t) => {
  const { submit } = await serveNotes(t)
  const id = uuid()
  await problem(await submit('ada', 'write', id, { ...note(1), number: 'one' }), 422, 'input-invalid')
  await problem(await submit('ada', 'write', id, '{"owner":'), 400, 'json-invalid')
  await problem(await submit('bob', 'write', id, note(1)), 403, 'not-allowed')
  await problem(await submit('admin', 'nope', id, note(1)), 404, 'unknown-request')
  const response = await submit('ada', 'write', id, note(1))
  assert.equal(response.status, 200)
  assert.equal(response.headers.get('idempotent-replayed'), null)
})

test('Stripe: a result is stored even if it is a 500 of the operation itself', async (t) => {
  const { submit } = await serveNotes(t)
  const id = uuid()
  const told = await problem(await submit('ada', 'explode', id, { owner: 'ada' }), 500, 'derivation-threw')
  assert.equal(told['outcome'], 'failed')
  assert.equal(told['requestId'], id)
  const again = await submit('ada', 'explode', id, { owner: 'ada' })
  assert.equal(again.headers.get('hence-outcome'), 'failed')
})

test('Stripe: overload is not stored: 503 with Retry-After, and the same key is new later', async (t) => {
  const held = Promise.withResolvers<void>()
  const { submit, engine } = await serveNotes(t, { queueBytesMax: 100, held: held.promise })
  const first = submit('ada', 'write', 'first', note(0))
  while (engine.stats().inFlight === 0) await new Promise(setImmediate)
  const refused = await submit('ada', 'write', 'second', note(1))
  assert.equal(refused.headers.get('retry-after'), '1')
  await problem(refused, 503, 'overloaded')
  held.resolve()
  assert.equal((await first).status, 200)
  const later = await submit('ada', 'write', 'second', note(1))
  assert.equal(later.status, 200)
  assert.equal(later.headers.get('idempotent-replayed'), null)
})

test('Stripe: the key of a GET has no effect', async (t) => {
  const { call } = await serveNotes(t)
  const response = await call('ada', '/tables/notes', { headers: { 'idempotency-key': '"x"' } })
  assert.equal(response.status, 200)
})

test('Prefer: respond-async returns 202 with the Location of the outcome', async (t) => {
  const { submit, call } = await serveNotes(t)
  const id = uuid()
  const first = await submit('ada', 'write', `"${id}"`, note(1), { prefer: 'respond-async, wait=10' })
  assert.equal(first.status, 202)
  assert.equal(first.headers.get('preference-applied'), 'respond-async')
  assert.equal(first.headers.get('location'), `/requests/${id}`)
  const story = await call('ada', first.headers.get('location')!)
  assert.equal(((await story.json()) as { outcome: { status: string } }).outcome.status, 'accepted')
  assert.equal((await submit('ada', 'write', id, note(1), { prefer: 'respond-async' })).status, 202)
  assert.equal((await submit('ada', 'write', id, note(1))).headers.get('idempotent-replayed'), 'true')
  await problem(
    await submit('ada', 'write', id, note(2), { prefer: 'respond-async' }),
    422,
    'request-id-reused',
  )
})

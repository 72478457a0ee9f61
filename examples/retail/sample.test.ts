import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { sample } from './sample.ts'

const requests = sample()

test('the sample never changes, so importing it again adds nothing', () => {
  assert.deepEqual(sample(), requests)
  const hash = createHash('sha256').update(JSON.stringify(requests)).digest('hex')
  assert.equal(hash, '968e77690a3ccaae44fa3febaacd8b8239a2a84e26b713d73c470239bb28d334')
})

test('another seed has another sample', () => {
  assert.notDeepEqual(sample({ orders: 20, seed: 2 }), sample({ orders: 20 }))
})

test('an id belongs to one request', () => {
  const byId = new Map<string, string>()
  for (const { requestId, principal, ...request } of requests) {
    const id = `${principal} ${requestId}`
    const text = JSON.stringify(request)
    assert.equal(byId.get(id) ?? text, text, id)
    byId.set(id, text)
  }
  const twice = requests.length - byId.size
  assert.ok(twice > 0.025 * byId.size && twice < 0.035 * byId.size, `${twice} of ${byId.size} are sent twice`)
})

test('the sample has 20,000 orders, and some of everything else', () => {
  const count = (type: string) =>
    new Set(requests.filter((request) => request.type === type).map(({ input }) => input.number)).size
  assert.equal(count('place-order'), 20_000)
  assert.ok(count('ship-order') > 10_000)
  assert.ok(count('cancel-order') > 500)
  assert.ok(count('credit-note') > 500)
  assert.ok(count('write-off-stock') > 400)
  assert.ok(count('adjust-debt') > 3)
  assert.equal(new Set(requests.map(({ principal }) => principal)).size, 4)
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { connect } from './connect.ts'

// Many calls of one process, as a service has them under load: they must not cost a connection each.

const calls = 1_500

async function send(fetch: (id: string) => Promise<Response>): Promise<void> {
  const hence = connect(['http://a', 'http://b'], {
    patienceMs: 60_000,
    fetch: (_, init) => fetch(new Headers(init?.headers).get('idempotency-key')!.slice(1, -1)),
  })
  const one = (_: unknown, n: number) => hence.submit('do', {}, { requestId: `r-${n}` })
  await Promise.all(Array.from({ length: calls }, one))
}

const accepted = (requestId: string) =>
  Response.json({ requestId, status: 'accepted', value: null, token: '0:0', replayed: false })

test('so many calls are asked at once, and the others wait', async () => {
  const { promise: all, resolve: release } = Promise.withResolvers<void>()
  let asked = 0
  const sent = send(async (id) => {
    asked++
    await all
    return accepted(id)
  })
  await turn()
  await turn()
  assert.equal(asked, 512)
  release()
  await sent
  assert.equal(asked, calls)
})

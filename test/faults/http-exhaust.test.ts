import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { mebibyte, openMany, start, type Victim } from './http-victim.ts'

// Clients that begin much and finish nothing: streams, batches and bytes are counted, shared out among
// callers, and given up in time.

const head = (path: string, who: string, more: string) =>
  `${path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Test ${who}\r\n${more}\r\n`
const batchHead = (who: string) =>
  head('POST /requests', who, 'content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n')
const chunk = (text: string) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`
const lineOf = (id: string, number: number) =>
  `${JSON.stringify({ requestId: id, type: 'write', input: { owner: id, number, text: '' } })}\n`

/** Everything that a connection receives. */
function received(socket: Socket): { text: string } {
  const all = { text: '' }
  socket.setEncoding('latin1').on('data', (part) => {
    all.text += part
  })
  return all
}

async function until(is: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await is())) await pause(20)
}

/** Writes for as long as the other end takes it. */
async function writeAll(socket: Socket, parts: Iterable<string>): Promise<void> {
  for (const part of parts) {
    if (socket.destroyed) return
    if (socket.write(part)) continue
    const closed = new AbortController()
    const { signal } = closed
    // A connection that is cut ends the wait too.
    await Promise.race([once(socket, 'drain', { signal }), once(socket, 'close', { signal })]).catch(() => {})
    closed.abort()
  }
}

async function stream(victim: Victim, who: string): Promise<number> {
  const controller = new AbortController()
  const response = await fetch(`${victim.url}/changes`, {
    headers: { authorization: `Test ${who}` },
    signal: controller.signal,
  })
  controller.abort()
  return response.status
}

test('985 × HEAD on one connection begins no work', async (t) => {
  const victim = await start(t)
  for (const path of ['/changes', '/changes?from=0', '/reprocess/diff']) {
    const socket = connect(victim.port, '127.0.0.1')
    const answers = received(socket)
    const one = head(`HEAD ${path}`, 'admin', 'accept: application/x-ndjson\r\n')
    await writeAll(
      socket,
      Array.from({ length: 985 }, () => one),
    )
    await until(() => answers.text.split('HTTP/1.1 200 ').length === 986)
    assert.equal(await victim.gauge('change_streams'), 0, path)
    socket.destroy()
  }
  for (const who of ['ada', 'bob', 'reader', 'admin']) assert.equal(await stream(victim, who), 200, who)
})

test('five batches in chunks of one byte', async (t) => {
  const victim = await start(t, { bodyBytes: 204_800 })
  await victim.assertHealthy()
  const before = (await victim.inspect()).residentBytes
  const sockets = await openMany(victim.port, 5, (i) => batchHead(`u${i}`))
  const answers = sockets.map(received)
  const bytes = (count: number) => '1\r\nx\r\n'.repeat(count)
  for (const socket of sockets) await writeAll(socket, Array(20).fill(bytes(10_000)))
  await until(async () => (await victim.gauge('body_bytes')) >= 5 * 200_000)
  const grown = (await victim.inspect()).residentBytes - before
  t.diagnostic(`${Math.round(grown / mebibyte)} MiB for 1 MB in chunks of one byte`)
  assert.ok(grown < 60 * mebibyte, `${grown} bytes`)
  for (const socket of sockets) await writeAll(socket, [bytes(4_801)])
  await until(() => answers.every(({ text }) => /body-too-large/.test(text)))
  await until(async () => (await victim.gauge('body_bytes')) === 0)
  await victim.assertHealthy()
})

test('300 lines of 1 MB that do not end: bytes are bounded for all and for each', async (t) => {
  const victim = await start(t, { batches: 300, batchesPerCaller: 300 })
  await victim.assertHealthy()
  const before = (await victim.inspect()).residentBytes
  const line = chunk('x'.repeat(1_000_000))
  // Three callers: each has a share of 16 MiB, all have 64.
  const sockets = await openMany(victim.port, 300, (i) => batchHead(`u${i % 3}`))
  const answers = sockets.map(received)
  await Promise.all(sockets.map((socket) => writeAll(socket, [line])))
  const refused = () => answers.filter(({ text }) => /"code":"overloaded"/.test(text)).length
  await until(() => refused() >= 300 - 3 * 16)
  assert.ok((await victim.gauge('body_bytes')) <= 48 * mebibyte)
  const grown = (await victim.inspect()).residentBytes - before
  t.diagnostic(`${Math.round(grown / mebibyte)} MiB for 300 lines of 1 MB, ${refused()} refused`)
  assert.ok(grown < 250 * mebibyte, `${grown} bytes`)
  // Others are served meanwhile, with large bodies too.
  const body = JSON.stringify({ owner: 'bob', number: 1, text: '', more: 'x'.repeat(500_000) })
  const other = await fetch(`${victim.url}/requests/write`, {
    method: 'POST',
    headers: { authorization: 'Test admin', 'content-type': 'application/json', 'idempotency-key': 'other' },
    body,
  })
  assert.equal(other.status, 200)
  for (const socket of sockets) socket.destroy()
  await until(async () => (await victim.gauge('body_bytes')) === 0)
  assert.equal(await victim.gauge('batches'), 0)
})

test('a batch whose client reads nothing is cut off, and its lines are let go', async (t) => {
  const victim = await start(t, { stalledMs: 1_000, heartbeatMs: 1_000 })
  await victim.assertHealthy()
  const before = (await victim.inspect()).residentBytes
  const [socket] = await openMany(victim.port, 1, () => batchHead('u1'))
  socket!.pause()
  // The problem of each line repeats the name of its type.
  const line = chunk(`${JSON.stringify({ requestId: 'x', type: 'x'.repeat(1_000_000), input: {} })}\n`)
  await writeAll(
    socket!,
    Array.from({ length: 100 }, () => line),
  )
  await until(async () => (await victim.gauge('batches')) === 0)
  assert.equal(await victim.gauge('body_bytes'), 0)
  const grown = (await victim.inspect()).residentBytes - before
  assert.ok(grown < 250 * mebibyte, `${grown} bytes`)
  socket!.destroy()
  await victim.assertHealthy()
})

test('a batch ends in time: as a whole, and where a line comes byte by byte', async (t) => {
  const victim = await start(t, { batchMs: 1_000, bodyMs: 500 })
  const endless = async (parts: (i: number) => string) => {
    const [socket] = await openMany(victim.port, 1, () => batchHead('u1'))
    const answers = received(socket!)
    for (let i = 0; !socket!.destroyed && !/body-too-slow/.test(answers.text); i++) {
      await writeAll(socket!, [chunk(parts(i))])
      await victim.gauge('batches')
    }
    assert.match(answers.text, /"code":"body-too-slow"/)
    socket!.destroy()
  }
  // Neither ever pauses.
  await Promise.all([endless((i) => lineOf(`whole-${i}`, 1)), endless(() => 'x')])
  await until(async () => (await victim.gauge('batches')) === 0)
  await victim.assertHealthy()
})

test('a caller has a share of batches and streams, and not the whole', async (t) => {
  const victim = await start(t, { batches: 12, batchesPerCaller: 10, streams: 12, streamsPerCaller: 10 })
  const status = async (says: string) => {
    const [socket] = await openMany(victim.port, 1, () => says)
    t.after(() => socket!.destroy())
    const answer = received(socket!)
    await until(() => /^HTTP\/1.1 \d+ /.test(answer.text))
    return answer.text.slice(9, 12)
  }
  const batch = (who: string) => status(batchHead(who) + chunk(lineOf(`${who}-1`, 1)))
  const changes = (who: string) => status(head('GET /changes', who, ''))
  for (const open of [batch, changes]) {
    for (let i = 0; i < 10; i++) assert.equal(await open('u1'), '200')
    assert.equal(await open('u1'), '429', 'the share of a caller')
    assert.equal(await open('u2'), '200')
    assert.equal(await open('u3'), '200')
    assert.equal(await open('u4'), '429', 'the whole')
  }
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type longTexts from '../../test/apps/long-texts.ts'
import { HandClock, settle } from '../../test/hand-clock.ts'
import { bundleApp, createEngine, HenceError } from '../index.ts'
import { memoryStorage } from '../testing/index.ts'

const app = await bundleApp<typeof longTexts>(new URL('../../test/apps/long-texts.ts', import.meta.url))

test('messages of failures and reasons of rejections are stored up to a length', async () => {
  const engine = await createEngine({ app, data: memoryStorage(), report: () => {} })
  const failed = await engine.submit('fail', { box: 'a', length: 5_000_000 }, { requestId: '1' })
  assert.ok(failed.status === 'failed')
  assert.equal(failed.code, 'derivation-threw')
  assert.ok(failed.message.length <= 2_001, `${failed.message.length}`)
  const refused = await engine.submit('refuse', { box: 'a', length: 1_000 }, { requestId: '2' })
  assert.equal(refused.status, 'rejected')
  const long = await engine.submit('refuse', { box: 'a', length: 1_001 }, { requestId: '3' })
  assert.ok(long.status === 'failed')
  assert.equal(long.code, 'value-too-large')
  await engine.close()
})

test('no two effects of a derivation get one id by keys that look alike', async () => {
  const engine = await createEngine({ app, data: memoryStorage(), report: () => {} })
  for (const how of ['half', 'number'] as const) {
    const reply = await engine.submit('write', { box: 'a', how }, { requestId: how })
    assert.ok(reply.status === 'failed', how)
    assert.equal(reply.code, 'key-invalid')
  }
  await engine.submit('write', { box: 'a', how: 'text' }, { requestId: 'text' })
  const effects = await engine.effects.list()
  assert.equal(new Set(effects.map(({ id }) => id)).size, 2)
  await engine.close()
})

test('appends that are refused at once, while reading works, are tried ever less often', async () => {
  const clock = new HandClock()
  const data = memoryStorage({ clock })
  let tries = 0
  let isRefusing = false
  const { log } = data
  const refusing = {
    id: log.id,
    partitions: log.partitions,
    read: log.read.bind(log),
    end: log.end.bind(log),
    close: log.close.bind(log),
    async append(...args: Parameters<typeof log.append>) {
      if (!isRefusing) return log.append(...args)
      tries++
      throw new HenceError('log-write-failed', 'retry', 'The disk is read-only.')
    },
  }
  const timed = Object.assign(clock, {
    timer: (ms: number, done: () => void) => clock.alarm(clock.now() + ms, done),
  })
  const engine = await createEngine({
    app,
    data: { ...data, log: refusing },
    clock: timed,
    report: () => {},
  })
  isRefusing = true
  const send = () => engine.submit('write', { box: 'a', how: 'text' }, { requestId: 'one' })
  // A client that tries again at once, as often as it can.
  let isSending = true
  const sending = (async () => {
    for (; isSending; await new Promise(setImmediate)) await send().catch(() => {})
  })()
  for (let i = 0; i < 20; i++) await settle()
  assert.ok(tries <= 3, `${tries} appends while the clock stood still`)
  for (let second = 0; second < 60; second++) {
    clock.pass(1_000)
    await settle()
  }
  assert.ok(tries >= 5 && tries <= 30, `${tries} appends in a minute`)
  isRefusing = false
  isSending = false
  for (let second = 0; second < 10; second++) {
    clock.pass(1_000)
    await settle()
  }
  await sending
  assert.equal((await send()).status, 'accepted')
  await engine.close()
})

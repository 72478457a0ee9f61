import assert from 'node:assert/strict'
import { test } from 'node:test'
import { memoryStorage } from 'hence/testing'
import { Completion } from '../processor/completion.ts'
import type { Processor } from '../processor/processor.ts'
import { completed } from './read-after.ts'

test('nothing waits for a token that names no record', async () => {
  const { log } = memoryStorage()
  const completion = new Completion([0], () => false)
  let waits = 0
  const wait = completion.wait.bind(completion)
  completion.wait = (...position) => {
    waits++
    return wait(...position)
  }
  const open = new AbortController()
  let ageMs = 0
  const after = (token: string) =>
    completed(
      token,
      log,
      async () => ({ completion }) as Processor,
      open.signal,
      () => ageMs,
    )
  for (const token of ['0:0', '0:7', '0:9007199254740991', '1:0', 'x']) {
    await assert.rejects(after(token), { code: 'token-unknown' })
  }
  // Another process may have taken over, and the token may be its own.
  ageMs = 2_500
  await assert.rejects(after('0:7'), { code: 'engine-unsure', message: /2500 ms ago/ })
  assert.equal(waits, 0)
})

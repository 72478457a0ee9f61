import assert from 'node:assert/strict'
import { test } from 'node:test'
import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { feed } from './feed.ts'

test('a reader that waits for a long time does not hold more and more memory', async () => {
  setFlagsFromString('--expose-gc')
  const collect: () => void = runInNewContext('gc')
  const used = () => {
    collect()
    return getHeapStatistics().used_heap_size
  }
  const rounds = 100_000
  const abort = new AbortController()
  let round = 0
  let first = 0
  let last = 0
  const source = {
    positions: () => [0],
    traces: () => [],
    keptFrom: () => 0,
    // Records that the reader does not wait for.
    async next() {
      if (++round === 1_000) first = used()
      if (round < rounds) return
      last = used()
      abort.abort()
    },
  }
  for await (const _ of feed(source, undefined, abort.signal)) assert.fail('there are no changes')
  assert.equal(round, rounds)
  assert.ok(last - first < 2_000_000, `${last - first} bytes more`)
})

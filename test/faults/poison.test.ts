import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { bundleApp, createEngine, type Engine, type HenceError } from 'hence'
import type { Report } from '../../src/report.ts'
import type poison from '../apps/poison.ts'

// Records whose derivation does not end, or uses up the stack: the record gets a ruling, and the others go on.

const bundle = await bundleApp<typeof poison>(new URL('../apps/poison.ts', import.meta.url))

async function withEngines(
  partitions: number,
  act: (
    open: (options?: { readonly derivationMs: number }) => Promise<Engine<typeof poison>>,
    reports: Report[],
    data: string,
  ) => Promise<void>,
): Promise<void> {
  const data = await mkdtemp(join(tmpdir(), 'hence-poison-'))
  const reports: Report[] = []
  const report = (report: Report) => void reports.push(report)
  const open = (options = {}) =>
    createEngine({ app: bundle, data, partitions, derivationMs: 400, report, ...options })
  try {
    await act(open, reports, data)
  } finally {
    await rm(data, { recursive: true })
  }
}

const poisons = {
  walk: { type: 'walk', input: { jar: 'a', step: 0 }, code: 'derivation-too-long' },
  match: { type: 'match', input: { jar: 'a', text: `${'a'.repeat(60)}b` }, code: 'derivation-too-long' },
  dive: { type: 'dive', input: { jar: 'a', step: 1e9 }, code: 'derivation-too-deep' },
} as const

for (const partitions of [1, 2, 8]) {
  for (const [name, { type, input, code }] of Object.entries(poisons)) {
    test(`${name} on ${partitions} partitions: it fails, the others go on, and a rebuild says the same`, async () => {
      await withEngines(partitions, async (open, reports) => {
        const engine = await open()
        const replies = await Promise.all([
          ...Array.from({ length: 20 }, (_, i) =>
            engine.submit('count', { jar: `b${i % 5}` }, { requestId: `before-${i}` }),
          ),
          engine.submit(type, input as never, { requestId: 'poison' }),
          ...Array.from({ length: 20 }, (_, i) =>
            engine.submit('count', { jar: `b${i % 5}` }, { requestId: `after-${i}` }),
          ),
        ])
        const failed = replies[20]!
        assert.equal(failed.status, 'failed')
        assert.equal(failed.status === 'failed' && failed.code, code)
        assert.equal(replies.filter(({ status }) => status === 'accepted').length, 40)
        assert.equal(await engine.get('counts', ['a']), undefined)
        for (let i = 0; i < 5; i++) assert.deepEqual(await engine.get('counts', [`b${i}`]), { n: 8 })
        const again = await engine.submit(type, input as never, { requestId: 'poison' })
        assert.deepEqual({ ...again, replayed: false }, { ...failed, replayed: false })
        const alarms = reports.filter(({ level }) => level === 'alarm')
        assert.ok(alarms.some(({ code, message }) => code === 'derivation-ruled' && message.includes(type)))
        const digest = await engine.digest()
        await engine.close()

        const ruled = () => reports.filter(({ code }) => code === 'derivation-ruled').length
        const before = ruled()
        const reopened = await open()
        assert.equal(await reopened.digest(), digest)
        await reopened.reprocessing.start({ app: bundle }, { again: true })
        const { differences } = await reopened.reprocessing.diff()
        assert.equal(differences, 0)
        assert.equal(ruled(), before)
        await reopened.close()
      })
    })
  }
}

test('a reaction that does not end is ruled on alone: its request and the other reactions stand', async () => {
  for (const partitions of [1, 2, 8]) {
    await withEngines(partitions, async (open, reports) => {
      const engine = await open()
      const send = (to: string, step: number) =>
        engine.submit('send', { jar: 'a', to, step }, { requestId: `${to}-${step}` })
      const replies = await Promise.all([send('b', 1), send('c', 0), send('d', 1)])
      assert.deepEqual(
        replies.map((reply) => reply.status === 'accepted' && reply.value),
        [1, 2, 3],
      )
      const after = replies.map(({ token }) => token)
      assert.deepEqual(await engine.get('counts', ['b'], { after }), { n: 1 })
      assert.equal(await engine.get('counts', ['c']), undefined)
      assert.deepEqual(await engine.get('counts', ['d']), { n: 1 })
      const story = await engine.story('c-0')
      assert.deepEqual(
        story!.steps.map(({ type, failure }) => [type, failure?.code]),
        [
          ['send', undefined],
          ['sent', 'derivation-too-long'],
        ],
      )
      assert.equal(reports.filter(({ code }) => code === 'derivation-ruled').length, 1)
      await engine.close()
    })
  }
})

test('what took long and ended is never ruled on later', async () => {
  // So many steps that they take a tenth of a second or more here.
  let step = 1
  for (let ms = 0; ms < 100; step /= 2) {
    const began = performance.now()
    for (let x = 0; x < 10; x += step);
    ms = performance.now() - began
  }
  await withEngines(1, async (open, reports, data) => {
    const slow = await open({ derivationMs: 600 })
    await slow.submit('count', { jar: 'a' }, { requestId: 'first' })
    const reply = await slow.submit('walk', { jar: 'a', step: step / 2 }, { requestId: 'slow' })
    const isMarked = reports.some(({ code, level }) => code === 'derivation-slow' && level === 'warning')
    assert.equal(reply.status, 'accepted')
    assert.ok(isMarked)
    const digest = await slow.digest()
    await slow.close()
    await rm(join(data, 'state'), { recursive: true })
    await assert.rejects(open({ derivationMs: 10 }), (error: HenceError) => {
      assert.equal(error.code, 'derivation-too-long')
      assert.match(error.message, /Record 0:2 .*derivationMs/)
      return true
    })
    assert.equal(reports.filter(({ code }) => code === 'derivation-ruled').length, 0)
    const again = await open({ derivationMs: 600 })
    assert.equal(await again.digest(), digest)
    await again.close()
  })
})

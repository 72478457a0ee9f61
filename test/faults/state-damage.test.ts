import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { bundleApp, createEngine } from 'hence'
import { verify } from 'hence/offline'
import { openLmdbStore } from '../../src/state/lmdb-store.ts'
import type stays from '../apps/stays.ts'
import { firstSeed, runsOf } from '../kept-failures.ts'

// The files of the derived state are damaged in every way: single bits, whole pages, cut, emptied, removed, a
// folder in their place. A start then has every outcome and every row, or says what is wrong; it never
// answers anything else, runs a request twice, or dies by a signal. HENCE_RUNS=5000 tries more.

const { runs } = runsOf(24)

test('verify compares everything that is derived, and its imprint is the same after a rebuild', async () => {
  const data = await mkdtemp(join(tmpdir(), 'hence-imprint-'))
  try {
    const app = await bundleApp<typeof stays>(new URL('../apps/stays.ts', import.meta.url))
    const start = () => createEngine({ app, data, partitions: 2, report: () => {}, checkpointRows: 20 })
    let engine = await start()
    for (let i = 0; i < 40; i++) {
      const input = { stay: `stay ${i}`, room: `room ${i % 3}`, remindAt: Date.now() + 1e9 }
      await engine.submit('book', input, { requestId: `id-${i}` })
    }
    await engine.close()
    const imprint = async () => {
      const { flaws, history } = await verify({ data })
      assert.deepEqual(flaws, [])
      return history.checked && history.imprint
    }
    const before = await imprint()
    assert.match(String(before), /^[0-9a-f]{64}$/)
    await rm(join(data, 'state'), { recursive: true })
    engine = await start()
    await engine.close()
    assert.equal(await imprint(), before)

    for (const [collection, change] of [
      ['decided', (text: string) => text.replace('accepted', 'rejected')],
      ['decided', () => undefined],
      ['t:hence.claims', (text: string) => text.replace(/^\[([^,]+),1,/, '[$1,2,')],
      ['t:hence.timers', () => undefined],
      ['i:hence.timers:due', () => undefined],
      ['traces', (text: string) => text.replace('booked', 'hooked')],
    ] as const) {
      const store = await openLmdbStore({ directory: join(data, 'state/0'), collections: [collection] })
      const [key, text] = [...store.range(collection)][0]!
      assert.notEqual(change(text), text)
      await store.write([[collection, [[key, change(text)]]]])
      await store.close()
      const { flaws } = await verify({ data })
      assert.deepEqual(
        flaws.map(({ code }) => code),
        ['state-differs'],
        collection,
      )
      const back = await openLmdbStore({ directory: join(data, 'state/0'), collections: [collection] })
      await back.write([[collection, [[key, text]]]])
      await back.close()
    }
    assert.equal(await imprint(), before)
  } finally {
    await rm(data, { recursive: true })
  }
})

test('damaged state is derived again from the log, and never answers', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'hence-damage-'))
  try {
    const app = await bundleApp<typeof stays>(new URL('../apps/stays.ts', import.meta.url))
    const data = join(folder, 'data')
    const requests = Array.from({ length: 150 }, (_, i) => {
      const input = { stay: `stay ${i % 120}`, room: `room ${i % 7}`, remindAt: Date.now() + 1e9 }
      return ['book', input, `id-${(i * 7_919) % 1_000}`] as const
    })
    let engine = await createEngine({ app, data, partitions: 2, report: () => {}, checkpointRows: 100 })
    for (const [type, input, requestId] of requests) await engine.submit(type, input, { requestId })
    await engine.close()
    // Some more versions of pages.
    engine = await createEngine({ app, data, report: () => {} })
    for (let i = 0; i < 20; i++)
      await engine.submit('note', { stay: `stay ${i}`, text: `note ${i}` }, { requestId: `note-${i}` })
    const replies: unknown[] = []
    for (const [type, input, requestId] of requests) {
      const reply = await engine.submit(type, input, { requestId })
      assert.equal(reply.replayed, true)
      replies.push(reply)
    }
    const right = JSON.stringify({ replies, digest: await engine.digest() })
    await engine.close()

    const seeds = Array.from({ length: runs }, (_, i) => firstSeed + i)
    const file = join(folder, 'given.json')
    await writeFile(file, JSON.stringify({ app, data, work: join(folder, 'work'), requests, seeds }))
    const child = spawn(
      process.execPath,
      ['-C', 'hence-source', join(import.meta.dirname, 'state-damage-process.ts'), file],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    const exited = new Promise((resolve) => child.on('exit', (code, signal) => resolve({ code, signal })))
    const lines = (await text(child.stdout))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    assert.deepEqual(await exited, { code: 0, signal: null }, JSON.stringify(lines.at(-1)))
    assert.equal(lines.length, 2 * runs)
    let found = 0
    for (let i = 0; i < lines.length; i += 2) {
      const [{ seed, what }, { codes, state }] = [lines[i], lines[i + 1]]
      const name = `seed ${seed}: ${what}: ${JSON.stringify(codes)}`
      assert.equal(typeof state === 'string' ? state : JSON.stringify(state), right, name)
      if (codes.start.length > 0) found++
      const isMisplaced = codes.start.includes('file-misplaced')
      assert.equal(codes.doctor.includes('file-misplaced'), isMisplaced, name)
      if (isMisplaced) continue
      const alarmed = codes.start.includes('state-unreadable')
      assert.equal(codes.doctor.includes('state-unreadable'), alarmed, name)
      assert.equal(codes.verify.includes('state-unreadable'), alarmed, name)
    }
    assert.ok(found >= runs / 4, `${found} of ${runs} damages were found, the others did no harm`)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { bundleApp, createEngine, type Engine } from 'hence'
import { openFileLog } from '../../src/log/file-log/file-log.ts'
import { decodeRecord } from '../../src/log/record.ts'
import type { Report } from '../../src/report.ts'
import { type MemoryStorage, memoryStorage } from '../../src/testing/index.ts'
import type poison from '../apps/poison.ts'
import { crashAt } from '../crash-points.ts'

// Records that the code of a candidate cannot derive: it gets rulings of its own, and is promoted.

const before = await bundleApp<typeof poison>(new URL('../apps/poison.ts', import.meta.url))
const next = await bundleApp<typeof poison>(new URL('../apps/poison-next.ts', import.meta.url))

type Options = Omit<Parameters<typeof createEngine<typeof poison>>[0], 'app' | 'data'> & {
  readonly data?: MemoryStorage
}

async function withEngines(
  partitions: number,
  act: (
    open: (app: typeof before, options?: Options) => Promise<Engine<typeof poison>>,
    reports: Report[],
    data: string,
  ) => Promise<void>,
): Promise<void> {
  const data = await mkdtemp(join(tmpdir(), 'hence-rulings-'))
  const reports: Report[] = []
  const report = (report: Report) => void reports.push(report)
  const open = (app: typeof before, options: Options = {}) =>
    createEngine({ app, data, partitions, derivationMs: 100, report, ...options })
  try {
    await act(open, reports, data)
  } finally {
    await rm(data, { recursive: true })
  }
}

const requests = [
  ['count', { jar: 'a' }, 'accepted'],
  ['walk', { jar: 'b', step: 0 }, 'derivation-too-long'],
  ['send', { jar: 'a', to: 'c', step: 0 }, 'accepted'],
  ['name', { jar: 'd', text: 'aa' }, 'accepted'],
  ['dive', { jar: 'e', step: 1e9 }, 'derivation-too-deep'],
  ['count', { jar: 'n0' }, 'accepted'],
  ['count', { jar: 'n1' }, 'accepted'],
] as const

/** Sends them all, or again. */
async function send(engine: Engine<typeof poison>) {
  const replies = await Promise.all(
    requests.map(([type, input], i) => engine.submit(type, input as never, { requestId: `request-${i}` })),
  )
  return replies.map((reply) => ({
    is: reply.status === 'failed' ? reply.code : reply.status,
    by: reply.corrected?.status === 'failed' ? reply.corrected.code : reply.corrected?.status,
    replayed: reply.replayed,
  }))
}

const ruled = (reports: readonly Report[]) => reports.filter(({ code }) => code === 'derivation-ruled').length

const counted = { a: 4, b: 0, c: 0, d: 0, e: 0, n0: 2, n1: 2, 'of n0': 0, 'of n1': 2 }

const jars = ['a', 'b', 'c', 'd', 'e', 'n0', 'n1', 'of n0', 'of n1']

async function countsIn(engine: Engine<typeof poison>) {
  return Object.fromEntries(
    await Promise.all(jars.map(async (jar) => [jar, (await engine.get('counts', [jar]))?.n ?? 0] as const)),
  )
}

for (const partitions of [1, 2]) {
  test(`code that cannot derive records either is promoted, ${partitions} partitions`, async () => {
    await withEngines(partitions, async (open, reports, data) => {
      const first = await open(before)
      assert.deepEqual(
        (await send(first)).map(({ is }) => is),
        requests.map(([, , status]) => status),
      )
      assert.equal(ruled(reports), 3)
      const { sha256: diff } = await (async () => {
        await first.reprocessing.start({ app: next })
        return first.reprocessing.diff()
      })()
      // The name, the note, and the three that the code before cannot derive.
      assert.equal(ruled(reports), 3 + 5)
      await first.reprocessing.promote({ diff }, { requestId: 'approval' })
      assert.deepEqual(await countsIn(first), counted)
      const sent = await send(first)
      assert.deepEqual(
        sent.map(({ is, by }) => [is, by]),
        requests.map(([type, , status]) => [
          status,
          type === 'name' ? 'derivation-too-long' : status === 'accepted' ? 'accepted' : undefined,
        ]),
      )
      const digest = await first.digest()
      await first.close()
      for (const isRebuilt of [false, true]) {
        if (isRebuilt) await rm(join(data, 'state'), { recursive: true })
        const again = await open(next)
        assert.equal(await again.digest(), digest)
        assert.deepEqual(await send(again), sent)
        assert.equal(ruled(reports), 8)
        if (!isRebuilt) {
          await again.close()
          continue
        }
        // The same code obeys the rulings, and differs in nothing.
        await again.reprocessing.discard()
        await again.reprocessing.start({ app: next }, { again: true })
        assert.equal((await again.reprocessing.diff()).differences, 0)
        await again.reprocessing.discard()
        assert.equal(ruled(reports), 8)
        await again.close()
      }
    })
  })
}

test('code in force from some record on may need rulings on what it has derived', async () => {
  await withEngines(1, async (open, reports, data) => {
    const first = await open(before)
    for (const requestId of ['one', 'two']) await first.submit('count', { jar: 'a' }, { requestId })
    await first.submit('walk', { jar: 'b', step: 0 }, { requestId: 'endless' })
    await first.close()
    const engine = await open(next, { onCodeChange: 'continue' })
    const walk = (requestId: string, step: number) =>
      engine.submit('walk', { jar: step === 0 ? 'c' : 'a', step }, { requestId })
    const failed = await walk('endless-too', 0)
    assert.equal(failed.status === 'failed' && failed.code, 'derivation-too-long')
    assert.equal((await walk('walk', 1)).status, 'accepted')
    assert.equal(ruled(reports), 2)
    const digest = await engine.digest()
    await engine.reprocessing.start({ app: next }, { again: true })
    const { sha256: diff } = await engine.reprocessing.diff()
    // The walk, which only the counts of this code make endless, and the first of the endless.
    assert.equal(ruled(reports), 4)
    await engine.close()

    // Generation 0 derives what it derived: and its outcome was sent.
    await rm(join(data, 'state/0'), { recursive: true })
    const rebuilt = await open(next)
    assert.equal(await rebuilt.digest(), digest)
    await rebuilt.reprocessing.promote({ diff }, { requestId: 'approval' })
    const walked = await rebuilt.submit('walk', { jar: 'a', step: 1 }, { requestId: 'walk' })
    assert.deepEqual(
      [walked.status, walked.corrected?.status, (await rebuilt.get('counts', ['a']))?.n],
      ['accepted', 'failed', 4],
    )
    await rebuilt.close()
  })
})

test('the generation that was live before follows past records that only its code cannot derive', async () => {
  await withEngines(2, async (open, reports) => {
    const engine = await open(next)
    await engine.submit('count', { jar: 'a' }, { requestId: 'one' })
    const { reprocessing } = engine
    await reprocessing.start({ app: before })
    const there = await reprocessing.diff()
    await reprocessing.promote({ diff: there.sha256 }, { requestId: 'there' })
    // Only the next code takes for ever.
    const reply = await engine.submit('name', { jar: 'd', text: 'aa' }, { requestId: 'name' })
    assert.equal(reply.status, 'accepted')
    const back = await reprocessing.diff()
    assert.equal(ruled(reports), 1)
    await reprocessing.promote({ diff: back.sha256 }, { requestId: 'back' })
    const again = await engine.submit('name', { jar: 'd', text: 'aa' }, { requestId: 'name' })
    assert.deepEqual([again.status, again.corrected?.status], ['accepted', 'failed'])
    await engine.close()
  })
})

for (const isChild of [true, false])
  test(`a record that comes just before a comparison is ruled on, ${isChild ? 'apart' : 'in the engine'}`, async () => {
    await withEngines(2, async (open, reports) => {
      const engine = await open(before, isChild ? {} : { data: memoryStorage({ partitions: 2 }) })
      const { reprocessing } = engine
      await reprocessing.start({ app: next })
      await reprocessing.caughtUp()
      const first = await engine.submit('name', { jar: 'd', text: 'aa' }, { requestId: 'name' })
      assert.equal(first.status, 'accepted')
      const { sha256: diff } = await reprocessing.diff()
      assert.equal(ruled(reports), 1)
      await engine.submit('name', { jar: 'd', text: 'aaa' }, { requestId: 'too' })
      await reprocessing.promote({ diff }, { requestId: 'approval' })
      assert.equal(ruled(reports), 2)
      for (const requestId of ['name', 'too']) {
        const text = requestId === 'name' ? 'aa' : 'aaa'
        const { status, corrected } = await engine.submit('name', { jar: 'd', text }, { requestId })
        assert.deepEqual([status, corrected?.status], ['accepted', 'failed'])
      }
      await engine.close()
    })
  })

for (const isChild of [true, false])
  test(`a key that does not end holds up no promotion, ${isChild ? 'apart' : 'in the engine'}`, async () => {
    await withEngines(2, async (open, reports) => {
      const engine = await open(before, isChild ? {} : { data: memoryStorage({ partitions: 2 }) })
      const find = (requestId: string, step: number) =>
        engine.submit('find', { jar: 'a', step }, { requestId })
      for (const [requestId, step] of [
        ['first', 1],
        ['endless', 2],
        ['endless-too', 2],
        ['last', 1],
      ] as const)
        assert.equal((await find(requestId, step)).status, 'accepted')
      const { reprocessing } = engine
      await reprocessing.start({ app: next })
      const { sha256: diff } = await reprocessing.diff()
      assert.equal(ruled(reports), 2)
      const { corrections } = await reprocessing.promote({ diff }, { requestId: 'approval' })
      // The last is the fourth for one version, and adds the second two for the other.
      assert.equal(corrections.outcome, 3)
      assert.deepEqual(
        [await find('first', 1), await find('endless', 2), await find('last', 1)].map(
          ({ corrected }) => corrected?.status,
        ),
        ['accepted', 'failed', undefined],
      )
      assert.deepEqual(await engine.get('counts', ['a']), { n: 4 })
      await engine.close()
    })
  })

/** Runs the process with little memory, until it ends or `stop` says so. */
async function run(
  data: string,
  options: {
    readonly partitions: number
    readonly derivationMs: number
    readonly stop?: (lines: readonly Line[]) => boolean
  },
  ...sent: readonly object[]
): Promise<{ code: number | null; lines: readonly Line[] }> {
  const main = fileURLToPath(import.meta.resolve('./poison-candidate-process.ts'))
  const { partitions, derivationMs, stop } = options
  const args = ['-C', 'hence-source', '--max-old-space-size=48', main, data]
  const child = spawn(
    process.execPath,
    [...args, String(partitions), String(derivationMs), ...sent.map((each) => JSON.stringify(each))],
    {
      stdio: ['ignore', 'pipe', 'ignore'],
    },
  )
  const lines: Line[] = []
  for await (const text of createInterface(child.stdout)) {
    // The process that derives has the same output, and V8 writes there why it ends.
    if (!text.startsWith('{')) continue
    lines.push(JSON.parse(text))
    if (stop?.(lines)) child.kill('SIGKILL')
  }
  if (child.exitCode === null && child.signalCode === null) await once(child, 'close')
  return { code: child.exitCode, lines }
}

interface Line {
  readonly report?: string
  readonly message?: string
  readonly digest?: string
}

const ofCandidate = (lines: readonly Line[]) =>
  lines.filter(({ report, message }) => report === 'derivation-ruled' && message!.includes('generation 1'))

async function withData(act: (data: string) => Promise<void>): Promise<void> {
  const data = await mkdtemp(join(tmpdir(), 'hence-rulings-'))
  try {
    await act(data)
  } finally {
    await rm(data, { recursive: true })
  }
}

async function rulingsIn(data: string): Promise<readonly string[]> {
  const found: string[] = []
  const log = await openFileLog({ directory: data })
  for (let partition = 0; partition < log.partitions; partition++) {
    for await (const { records } of log.read(partition, 0)) {
      for (const record of records.map((bytes) => decodeRecord(bytes))) {
        if (record.kind !== 'ruling') continue
        const { offset, between, n, version } = record.ruling
        found.push([partition, offset, between, n, version].join())
      }
    }
  }
  await log.close()
  return found
}

const isLong = process.env['HENCE_KILLS'] !== undefined

for (const partitions of [1, 2]) {
  const name = `a record that fills the heap of a candidate is ruled on, ${partitions} partitions`
  const once = `rulings of a candidate are written once, ${partitions} partitions`
  test(name, { skip: !isLong }, async () => {
    await withData(async (data) => {
      const sent = [
        { type: 'count', input: { jar: 'a' } },
        { type: 'name', input: { jar: 'a', text: 'aaaa' } },
        // Its note stands between two records where there are two partitions.
        ...(partitions === 2 ? [{ type: 'count', input: { jar: 'n2' } }] : []),
        { type: 'count', input: { jar: 'b' } },
      ]
      const { code, lines } = await run(data, { partitions, derivationMs: 30_000 }, ...sent)
      assert.equal(code, 0)
      assert.deepEqual(
        ofCandidate(lines).map(({ message }) => /\(.*?\) was ruled on: .*?\./.exec(message!)![0]),
        ['name "a"', ...(partitions === 2 ? ['noted "of n2"'] : [])].map(
          (each) => `(${each}) was ruled on: Processes that derived it ran out of memory.`,
        ),
      )
      await rm(join(data, 'state'), { recursive: true })
      const engine = await createEngine<typeof poison>({ app: next, data, report: () => {} })
      assert.equal(await engine.digest(), lines.at(-1)!.digest)
      assert.deepEqual(await Promise.all(['a', 'b', 'of n2'].map((jar) => engine.get('counts', [jar]))), [
        { n: 2 },
        { n: 2 },
        undefined,
      ])
      await engine.close()
    })
  })

  test(crashAt('candidate deriving', once), { skip: !isLong && partitions === 1 }, async () => {
    const sent = requests.map(([type, input]) => ({ type, input }))
    await withData(async (data) => {
      for (let kills = 1; kills <= 2; kills++)
        await run(
          data,
          { partitions, derivationMs: 100, stop: (lines) => ofCandidate(lines).length === kills },
          ...sent,
        )
      const { code, lines } = await run(data, { partitions, derivationMs: 100 }, ...sent)
      assert.equal(code, 0)
      const rulings = await rulingsIn(data)
      assert.equal(new Set(rulings).size, rulings.length)
      assert.equal(rulings.length, 8)
      await rm(join(data, 'state'), { recursive: true })
      const engine = await createEngine<typeof poison>({ app: next, data, report: () => {} })
      assert.equal(await engine.digest(), lines.at(-1)!.digest)
      assert.deepEqual(await countsIn(engine), counted)
      await engine.close()
    })
  })
}

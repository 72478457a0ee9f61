import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { bundleApp, createEngine, type Engine, type Handlers, type HenceError } from 'hence'
import { doctor, exportLog, rule } from 'hence/offline'
import { type MemoryStorage, memoryStorage } from 'hence/testing'
import { identityOf } from '../../src/identity.ts'
import { openFileLog } from '../../src/log/file-log/file-log.ts'
import { partitionOf } from '../../src/log/partitions.ts'
import { encodeRequest } from '../../src/log/record.ts'
import type { Report } from '../../src/report.ts'
import type poison from '../apps/poison.ts'
import { hence } from '../hence-process.ts'

// Records whose derivation does not end, or uses up the stack: the record gets a ruling, and the others go
// on.

const bundle = await bundleApp<typeof poison>(new URL('../apps/poison.ts', import.meta.url))

async function withEngines(
  partitions: number,
  act: (
    open: (options?: {
      readonly derivationMs?: number
      readonly data?: MemoryStorage
      readonly handlers?: Handlers<typeof poison>
    }) => Promise<Engine<typeof poison>>,
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
  blame: { type: 'blame', input: { jar: 'a', step: 0 }, code: 'derivation-too-long' },
  sink: { type: 'sink', input: { jar: 'a', step: 1e9 }, code: 'derivation-too-deep' },
  dive: { type: 'dive', input: { jar: 'a', step: 1e9 }, code: 'derivation-too-deep' },
} as const

/** Each record that is ruled on takes the time of its limit. */
const partitionCounts = process.env['HENCE_RUNS'] ? [1, 2, 8] : [2]

for (const partitions of partitionCounts) {
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
        assert.ok(
          alarms.some(({ code, message }) => code === 'derivation-ruled' && message.includes(`${type} "a"`)),
        )
        assert.ok(
          alarms.some(({ code, message }) => code === 'derivation-failed' && message.includes(`${type} "a"`)),
        )
        assert.deepEqual(
          (await engine.story('poison'))!.steps.map(({ key }) => key),
          ['a'],
        )
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
  for (const partitions of partitionCounts) {
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

test('nobody reads what an interrupted derivation has changed', async () => {
  for (const options of [{}, { data: memoryStorage() }]) {
    await withEngines(1, async (open) => {
      const engine = await open(options)
      await engine.submit('count', { jar: 'a' }, { requestId: 'first' })
      const seen = new Set<number>()
      let reads: Promise<void>[] | undefined = []
      // One is always due when the derivation is interrupted.
      const read = () => {
        reads?.push(engine.get('counts', ['a']).then((row) => void seen.add(row!.n)))
        if (reads) setTimeout(read, 1)
      }
      read()
      const reply = await engine.submit('walk', { jar: 'a', step: 0 }, { requestId: 'endless' })
      assert.equal(reply.status, 'failed')
      const all = reads
      reads = undefined
      await Promise.all(all)
      assert.deepEqual([...seen], [1])
      await engine.close()
    })
  }
})

test('a schema of results that does not end makes its effect dead, and the others go on', async () => {
  for (const data of [undefined, memoryStorage()]) {
    await withEngines(1, async (open) => {
      const { promise: called, resolve } = Promise.withResolvers<void>()
      const copy = async ({ input }: { input: { text: string } }) => {
        if (input.text.endsWith('b')) resolve()
        return input
      }
      const letter = () => {}
      const engine = await open({ handlers: { copy, letter }, ...(data && { data }) })
      for (const text of ['aaa', `${'a'.repeat(60)}b`])
        await engine.submit('ask', { jar: 'a', text }, { requestId: text })
      await called
      let dead = await engine.effects.list({ state: 'dead' })
      for (; dead.length === 0; dead = await engine.effects.list({ state: 'dead' })) await turn()
      assert.match(dead[0]!.error!, /schema of "copy" did not end/)
      const { status } = await engine.submit('count', { jar: 'a' }, { requestId: 'count' })
      assert.equal(status, 'accepted')
      await engine.close()
    })
  }
})

test('a schema or key that does not end is a refusal of its request alone', async () => {
  for (const partitions of [1, 2]) {
    await withEngines(partitions, async (open) => {
      const engine = await open()
      await engine.submit('count', { jar: 'a' }, { requestId: 'first' })
      const answers = await Promise.allSettled([
        engine.submit('count', { jar: 'a' }, { requestId: 'before' }),
        engine.submit('name', { jar: 'a', text: `${'a'.repeat(60)}b` }, { requestId: 'name' }),
        engine.submit('find', { jar: 'a', step: 0 }, { requestId: 'find' }),
        engine.submit('name', { jar: 'a', text: 'aaa' }, { requestId: 'good' }),
        engine.submit('count', { jar: 'a' }, { requestId: 'after' }),
      ])
      assert.deepEqual(
        answers.map((answer) =>
          answer.status === 'rejected' ? answer.reason.code : 'value' in answer.value && answer.value.value,
        ),
        [2, 'validation-too-long', 'validation-too-long', 3, 4],
      )
      assert.deepEqual(await engine.get('counts', ['a']), { n: 4 })
      const { value } = (await engine.submit('count', { jar: 'a' }, { requestId: 'last' })) as {
        value: number
      }
      assert.equal(value, 5)
      const digest = await engine.digest()
      await engine.close()
      const reopened = await open()
      assert.equal(await reopened.digest(), digest)
      await reopened.close()
    })
  }
})

/** A step with which `walk` takes a quarter of a second of a processor or more here, however busy it is. */
function slowStep(): number {
  for (let step = 1; ; step /= 2) {
    const before = process.threadCpuUsage()
    for (let x = 0; x < 10; x += step);
    if (process.threadCpuUsage(before).user > 250_000) return step / 4
  }
}

for (const partitions of partitionCounts) {
  test(`after a derivation that takes long and ends the others go on, ${partitions} partitions`, async () => {
    await withEngines(partitions, async (open) => {
      const engine = await open({ derivationMs: 3_000 })
      const count = (name: string) =>
        Promise.all(
          Array.from({ length: 10 }, (_, i) =>
            engine.submit('count', { jar: `b${i % 5}` }, { requestId: `${name}-${i}` }),
          ),
        )
      const slow = { jar: 'a', step: 2 * slowStep() }
      const walk = (requestId: string) => engine.submit('walk', slow, { requestId })
      await Promise.all([count('before'), walk('walk'), count('beside'), walk('walk-again'), count('last')])
      await count('after')
      for (let i = 0; i < 5; i++) assert.deepEqual(await engine.get('counts', [`b${i}`]), { n: 8 })
      const digest = await engine.digest()
      await engine.close()
      const again = await open({ derivationMs: 3_000 })
      assert.equal(await again.digest(), digest)
      await again.close()
    })
  })
}

test('half a record that was interrupted is not saved while the log is being closed', async () => {
  const data = memoryStorage({ partitions: 1 })
  const { log } = data
  const read = log.read.bind(log)
  log.read = (...given) => {
    const batches = read(...given)[Symbol.asyncIterator]()
    return {
      [Symbol.asyncIterator]: () => ({
        next: () => batches.next(),
        async return(value) {
          for (let turns = 0; turns < 50; turns++) await new Promise(setImmediate)
          return (await batches.return?.(value)) ?? { done: true, value }
        },
      }),
    }
  }
  const engine = await createEngine({
    ...{ app: bundle, data, partitions: 1, derivationMs: 100, checkpointRows: 1, report() {} },
  })
  for (let n = 0; n < 5; n++) {
    await engine.submit('count', { jar: 'a' }, { requestId: `c${n}` })
    await engine.submit('walk', { jar: 'a', step: 0 }, { requestId: `w${n}` })
  }
  assert.deepEqual(await engine.get('counts', ['a']), { n: 5 })
  await engine.close()
})

test('what took long and ended is never ruled on later', async () => {
  // How fast the loop runs in the realm differs from here, so it may end before it is called slow.
  for (let step = slowStep(); !(await tookLong(step)); step /= 2);
})

test('effects that are under way, or not in the log yet, are not called again after a ruling', async () => {
  const data = await mkdtemp(join(tmpdir(), 'hence-poison-'))
  const calls: string[] = []
  const answers = new Map<string, PromiseWithResolvers<void>>()
  const called = (to: string) => {
    if (!answers.has(to)) answers.set(to, Promise.withResolvers<void>())
    return answers.get(to)!
  }
  const begun = new Map(['a', 'b', 'c'].map((to) => [to, Promise.withResolvers<void>()]))
  const engine = await createEngine<typeof poison>({
    app: bundle,
    ...{ data, partitions: 2, derivationMs: 300, report() {} },
    handlers: {
      async letter({ input: { to } }: { input: { to: string } }) {
        calls.push(to)
        begun.get(to)!.resolve()
        await called(to).promise
      },
    } as never,
  })
  try {
    await engine.submit('write', { jar: 'a' }, { requestId: 'to-a' })
    await engine.submit('write', { jar: 'b' }, { requestId: 'to-b' })
    await Promise.all([begun.get('a')!.promise, begun.get('b')!.promise])
    const ruled = engine.submit('walk', { jar: 'a', step: 0 }, { requestId: 'poison' })
    // Answered just before the derivation that does not end: the result is not in the log then.
    called('b').resolve()
    assert.equal((await ruled).status, 'failed')
    called('a').resolve()
    called('c').resolve()
    await engine.submit('write', { jar: 'c' }, { requestId: 'to-c' })
    await begun.get('c')!.promise
    while ((await engine.effects.list({ state: 'done' })).length < 3) await engine.idle()
    assert.deepEqual(calls, ['a', 'b', 'c'])
    assert.deepEqual(await engine.effects.list({ state: 'pending' }), [])
  } finally {
    await engine.close()
    await rm(data, { recursive: true })
  }
})

/** @returns false if the derivation was not slow, so that nothing was shown */
async function tookLong(step: number): Promise<boolean> {
  let isSlow = false
  await withEngines(1, async (open, reports, data) => {
    const slow = await open({ derivationMs: 8_000 })
    await slow.submit('count', { jar: 'a' }, { requestId: 'first' })
    const reply = await slow.submit('walk', { jar: 'a', step }, { requestId: 'slow' })
    assert.equal(reply.status, 'accepted')
    const digest = await slow.digest()
    await slow.close()
    isSlow = reports.some(({ code, level }) => code === 'derivation-slow' && level === 'warning')
    if (!isSlow) return
    await rm(join(data, 'state'), { recursive: true })
    await assert.rejects(open({ derivationMs: 10 }), (error: HenceError) => {
      assert.equal(error.code, 'derivation-too-long')
      assert.match(error.message, /Record 0:2 .*derivationMs/)
      return true
    })
    assert.equal(reports.filter(({ code }) => code === 'derivation-ruled').length, 0)
    const again = await open({ derivationMs: 8_000 })
    assert.equal(await again.digest(), digest)
    await again.close()
  })
  return isSlow
}

interface Run {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly lines: readonly Record<string, unknown>[]
}

/** Runs an engine in a process with a small heap until it ends. */
async function run(data: string, ...requests: object[]): Promise<Run> {
  const main = fileURLToPath(import.meta.resolve('./poison-process.ts'))
  const args = ['-C', 'hence-source', '--max-old-space-size=48', main, data]
  const child = spawn(process.execPath, [...args, ...requests.map((each) => JSON.stringify(each))], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (more) => {
    text += more
  })
  const [code, signal] = await once(child, 'close')
  const lines = text.split('\n').filter((line) => line.endsWith('}'))
  return { code, signal, lines: lines.map((line) => JSON.parse(line)) }
}

test('a record that fills the heap ends three processes, and the fourth rules on it', async () => {
  const data = await mkdtemp(join(tmpdir(), 'hence-poison-'))
  try {
    const fill = { type: 'fill', id: 'fill', input: { jar: 'a', step: 1e6 } }
    const counts = ['b', 'c', 'd'].map((jar) => ({ type: 'count', id: `count-${jar}`, input: { jar } }))
    const died = [await run(data, ...counts, fill)]
    while (died.at(-1)!.code !== 0) {
      assert.ok(died.length < 6, 'it never starts again')
      died.push(await run(data, fill, ...counts))
    }
    assert.equal(died.length, 4)
    const { lines } = died.at(-1)!
    assert.deepEqual(
      lines.filter(({ id }) => id === 'fill').map(({ status, code }) => [status, code]),
      [['failed', 'derivation-too-large']],
    )
    assert.equal(lines.filter(({ status }) => status === 'accepted').length, 3)
    for (const alarm of ['derivation-ruled', 'derivation-failed'])
      assert.deepEqual(
        lines.filter(({ report }) => report === alarm).map(({ message }) => /\(.*?\)/.exec(`${message}`)![0]),
        ['(fill "a")'],
      )
    const digest = lines.find(({ ready }) => ready !== undefined)!.ready
    await rm(join(data, 'state'), { recursive: true })
    const rebuilt = await run(data, fill)
    assert.deepEqual(
      rebuilt.lines.filter(({ report }) => report === undefined),
      [
        { ready: digest },
        { id: 'fill', status: 'failed', code: 'derivation-too-large', token: rebuilt.lines.at(-1)!.token },
      ],
    )
  } finally {
    await rm(data, { recursive: true })
  }
})

test('processes that are killed during a start condemn no record', async () => {
  const data = await mkdtemp(join(tmpdir(), 'hence-poison-'))
  try {
    await run(data)
    const log = await openFileLog({ directory: data })
    const partition = partitionOf('a', log.partitions)
    const record = encodeRequest(identityOf('one', ''), 'count', '{"jar":"a"}', undefined, 1)
    const { offset } = await log.append(partition, [record])
    await log.close()
    // As three processes leave it that were killed while they derived this record.
    await rm(join(data, 'state'), { recursive: true })
    await mkdir(join(data, 'state'))
    await writeFile(join(data, 'state/run.json'), JSON.stringify({ partition, offset, begun: 3 }))
    const { code, lines } = await run(data, { type: 'count', id: 'two', input: { jar: 'a' } })
    assert.equal(code, 0)
    assert.equal(lines.filter(({ report }) => report === 'derivation-ruled').length, 0)
    assert.equal(lines.filter(({ report }) => report === 'derivation-suspected').length, 1)
    assert.equal(lines.at(-1)!.status, 'accepted')
  } finally {
    await rm(data, { recursive: true })
  }
})

test('an operator rules a record out by hand, and never one that was decided', async () => {
  const data = await mkdtemp(join(tmpdir(), 'hence-poison-'))
  try {
    // It dies on the second one, and nothing is decided yet.
    const died = await run(data, { type: 'fill', id: 'fill', input: { jar: 'b', step: 1e6 } })
    assert.notEqual(died.code, 0)
    let token = ''
    for await (const line of exportLog({ data })) {
      const { kind, token: position } = JSON.parse(line)
      if (kind === 'request') token = position
    }
    const ended = await hence([
      'rule',
      token,
      '--data',
      data,
      '--reason',
      'it fills the heap',
      '--yes',
      '--json',
    ])
    assert.equal(ended.code, 0, ended.stderr)
    assert.equal(JSON.parse(ended.stdout).type, 'fill')
    const { code, lines } = await run(data, { type: 'fill', id: 'fill', input: { jar: 'b', step: 1e6 } })
    assert.equal(code, 0)
    assert.deepEqual(
      lines.filter(({ id }) => id === 'fill').map(({ status, code }) => [status, code]),
      [['failed', 'derivation-ruled-out']],
    )
    const { findings } = await doctor({ data })
    const ruled = findings.filter(({ code }) => code === 'derivation-ruled')
    assert.equal(ruled.length, 1)
    assert.match(ruled[0]!.message, /\(fill no known key\).* it fills the heap/)
    const explained = await hence(['explain', 'fill', '--data', data])
    assert.match(explained.stdout, /request fill under no known key/)
    const story = await hence(['explain', 'fill', '--data', data, '--json'])
    const [step] = JSON.parse(story.stdout).steps
    assert.deepEqual([step.type, 'key' in step], ['fill', false])
    const shown = await hence(['doctor', '--data', data])
    assert.match(shown.stdout, /^ {2}To do: If that code is in force/m)

    const again = await run(data, { type: 'count', id: 'count', input: { jar: 'b' } })
    const counted = String(again.lines.at(-1)!.token)
    await run(data, { type: 'count', id: 'later', input: { jar: 'b' } })
    await assert.rejects(rule({ data, record: counted }), { code: 'ruling-refused' })
    await assert.rejects(rule({ data, record: '0:999' }), { code: 'token-unknown' })
    await assert.rejects(rule({ data, record: 'x' }), { code: 'token-unknown' })
    const asked = await hence(['rule', '0:999', '--data', data])
    assert.match(asked.stderr, /token-unknown/)
    assert.doesNotMatch(asked.stderr, /confirm/)
  } finally {
    await rm(data, { recursive: true })
  }
})

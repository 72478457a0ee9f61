import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { type AppBundle, bundleApp, createEngine, type Engine, type HenceError } from 'hence'
import { systemClock } from '../../src/clock.ts'
import { openDirectory } from '../../src/storage/storage.ts'
import type stays from '../apps/stays.ts'

// A state too large for a check before its start is checked in the background. These tests call any state
// too large.

const stay = 'a stay with a name of its own'
const source = new URL('../apps/stays.ts', import.meta.url)

/** A data directory with some stays, and an engine opened on it that has yet to check its state. */
async function given(t: TestContext) {
  const data = await mkdtemp(join(tmpdir(), 'hence-checks-'))
  t.after(() => rm(data, { recursive: true, force: true }))
  const app = await bundleApp<typeof stays>(source)
  const requests = Array.from({ length: 300 }, (_, i) => [`id-${i}`, i === 150 ? stay : `stay ${i}`] as const)
  const book = (engine: Engine<typeof stays>, [requestId, name]: readonly [string, string]) =>
    engine.submit('book', { stay: name, room: 'room' }, { requestId })
  const codes: string[] = []
  const start = async (code: AppBundle<typeof stays> = app, checkedFirstBytes = 0) => {
    codes.length = 0
    const opened = { directory: data, partitions: 1, clock: systemClock, checkedFirstBytes }
    const report = ({ code }: { code: string }) => codes.push(code)
    const storage = await openDirectory({ ...opened, report })
    return createEngine({ app: code, data: storage, report, onCodeChange: 'continue' })
  }
  const first = await start()
  const replies: unknown[] = []
  for (const request of requests) replies.push({ ...(await book(first, request)), replayed: true })
  const digest = await first.digest()
  await first.close()
  const isRight = async (engine: Engine<typeof stays>) => {
    assert.equal(await engine.digest(), digest)
    for (const [i, request] of requests.entries()) assert.deepEqual(await book(engine, request), replies[i])
  }
  /** Changes a bit wherever a text is in the file of the state, or shortly behind it. */
  const damage = (of: string, behind = 3) => {
    const path = join(data, 'state/0/data.mdb')
    const bytes = readFileSync(path)
    let found = 0
    for (let at = bytes.indexOf(of); at >= 0; at = bytes.indexOf(of, at + of.length)) {
      bytes[at + behind]! ^= 1
      found++
    }
    assert.ok(found > 0, `${of} is in the file`)
    writeFileSync(path, bytes)
  }
  return { data, app, codes, start, isRight, damage, book }
}

/** Waits until a check in the background has ended one way or the other. */
async function checked(engine: Engine<typeof stays>) {
  for (;;) {
    const health = await engine.health()
    if (!health.ready || engine.stats().stateCheckedAt !== undefined) return health
    await pause(2)
  }
}

test('a large state is checked in the background, and says when', async (t) => {
  const { data, codes, start, isRight } = await given(t)
  const engine = await start()
  assert.equal(engine.stats().stateCheckedAt, undefined)
  assert.ok(existsSync(join(data, 'state/0/unchecked')))
  const before = Date.now()
  assert.deepEqual(await checked(engine), { ready: true })
  assert.ok(engine.stats().stateCheckedAt! >= before)
  assert.equal(engine.stats().stateCheckProgress, undefined)
  assert.ok(!existsSync(join(data, 'state/0/unchecked')))
  await isRight(engine)
  await engine.close()
  // A process that ends before the check has no slower start.
  await (await start()).close()
  assert.ok(!existsSync(join(data, 'state/0/unchecked')))
  assert.deepEqual(codes, [])
})

test('damage that the check finds stops the engine, and the next start derives again', async (t) => {
  const { data, codes, start, isRight, damage, book } = await given(t)
  // The key of its row, which no reading would find.
  damage(stay)
  const engine = await start()
  assert.deepEqual(codes, [])
  const health = await checked(engine)
  assert.ok(!health.ready)
  assert.equal(health.code, 'engine-stopped')
  assert.match(health.message, /page \d+ of data.mdb is damaged/)
  assert.deepEqual(codes, ['engine-stopped'])
  await assert.rejects(book(engine, ['id-150', stay]), { code: 'engine-stopped' })
  await assert.rejects(engine.get('steps', [stay]), { code: 'engine-stopped' })
  await engine.close()

  const next = await start()
  assert.deepEqual(codes, ['state-unreadable'])
  assert.ok(existsSync(join(data, 'state/0.damaged/data.mdb')))
  await isRight(next)
  assert.deepEqual(await checked(next), { ready: true })
  await next.close()
  assert.deepEqual(readdirSync(join(data, 'state')).sort(), ['0', 'generations.json', 'tries'])
})

const losses: Readonly<Record<string, (state: string) => void>> = {
  removed: (state) => rmSync(state, { recursive: true }),
  // It would end the process by SIGBUS wherever LMDB reads behind the end.
  cut: (state) => truncateSync(join(state, 'data.mdb'), statSync(join(state, 'data.mdb')).size - 1),
  replaced(state) {
    copyFileSync(join(state, 'data.mdb'), join(state, 'copy'))
    renameSync(join(state, 'copy'), join(state, 'data.mdb'))
  },
}
for (const [what, lose] of Object.entries(losses))
  test(`a state that is ${what} under an engine stops it, and the next start has all`, async (t) => {
    const { data, codes, start, isRight } = await given(t)
    const engine = await start()
    assert.deepEqual(await checked(engine), { ready: true })
    lose(join(data, 'state/0'))
    let health = await engine.health()
    while (health.ready) health = await engine.health()
    assert.match(health.message, /state-unreadable.*removed, cut or replaced/)
    assert.deepEqual(codes, ['engine-stopped'])
    await engine.close()
    const next = await start()
    await isRight(next)
    await next.close()
  })

test('damage that a read finds has the state checked by the next start', async (t) => {
  const { codes, start, isRight, damage } = await given(t)
  // Its row follows its key.
  damage(stay, stay.length + 8)
  const engine = await start()
  await assert.rejects(engine.get('steps', [stay]), { code: 'state-unreadable' })
  await engine.close()
  const next = await start()
  assert.deepEqual(codes, ['state-unreadable'])
  await isRight(next)
  await next.close()
})

test('a process that died before the check has the state checked first', async (t) => {
  const { data, codes, start, isRight, damage } = await given(t)
  damage(stay)
  writeFileSync(join(data, 'state/0/unchecked'), '')
  const engine = await start()
  assert.deepEqual(codes, ['state-unreadable'])
  await isRight(engine)
  await engine.close()
})

test('a damaged state stays aside until the code is there to derive it again', async (t) => {
  const { data, app, codes, start, isRight, damage } = await given(t)
  const code = `${app.code}\n//`
  const other = { ...app, code, hash: createHash('sha256').update(code).digest('hex') }
  const changed = await start(other)
  await isRight(changed)
  await changed.close()
  damage(stay)
  const whole = readFileSync(join(data, 'state/0/data.mdb'))
  const kept = join(data, 'code', `${app.hash}.js`)
  renameSync(kept, `${kept}.away`)
  for (let i = 0; i < 2; i++)
    await assert.rejects(start(other, Number.MAX_SAFE_INTEGER), { code: 'code-not-kept' })
  assert.deepEqual(readFileSync(join(data, 'state/0.damaged/data.mdb')), whole)
  renameSync(`${kept}.away`, kept)
  const engine = await start(other)
  await isRight(engine)
  await checked(engine)
  await engine.close()
  assert.ok(!existsSync(join(data, 'state/0.damaged')))
  assert.deepEqual(codes, [])
})

test('a directory whose state cannot be begun is an error that says so, and is not left locked', async (t) => {
  const { data, start, isRight } = await given(t)
  rmSync(join(data, 'state'), { recursive: true })
  symlinkSync(join(data, 'nowhere/state'), join(data, 'state'))
  await assert.rejects(start(), (error: HenceError) => error.code === 'data-unusable')
  rmSync(join(data, 'state'))
  const engine = await start()
  await isRight(engine)
  await engine.close()
})

import assert from 'node:assert/strict'
import { appendFile, chmod, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { HenceError } from '../failure.ts'
import { file } from './file.ts'
import type { StoredRequest } from './outbox.ts'

async function pathFor(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'hence-outbox-'))
  t.after(() => rm(folder, { recursive: true }))
  return join(folder, 'outbox.jsonl')
}

function request(i: number): StoredRequest {
  return { requestId: `r${i}`, type: 'place', input: `{"order":"o${i}"}`, queue: '', since: 1_000 + i }
}

async function idsIn(path: string): Promise<string[]> {
  const outbox = await file(path).open()
  const stored = await outbox.list()
  await outbox.close()
  return stored.map(({ requestId }) => requestId)
}

async function refused(act: Promise<unknown>, code: string, advice: string, message: RegExp): Promise<void> {
  await assert.rejects(act, (error) => {
    assert.ok(error instanceof HenceError, String(error))
    assert.deepEqual([error.code, error.advice], [code, advice])
    assert.match(error.message, message)
    return true
  })
}

test('what was added is there in its order when it is opened again, what was removed is not', async (t) => {
  const path = await pathFor(t)
  const box = file(path)
  const outbox = await box.open()
  await Promise.all([outbox.add(request(1)), outbox.add(request(2)), outbox.add(request(3))])
  await outbox.add({ ...request(1), input: '{"order":"other"}' })
  await outbox.remove('r2')
  await outbox.remove('unknown')
  assert.deepEqual(await outbox.list(), [request(1), request(3)])
  await outbox.close()
  assert.equal((await stat(path)).mode & 0o077, 0, 'requests are nobody else’s business')
  const again = await box.open()
  assert.deepEqual(await again.list(), [request(1), request(3)])
  await again.close()
})

test('a request that is replaced keeps its place, also when the file is opened again', async (t) => {
  const path = await pathFor(t)
  const outbox = await file(path).open()
  for (let i = 0; i < 3; i++) await outbox.add({ ...request(i), unsent: true })
  await outbox.replace!(request(1))
  const expected = [{ ...request(0), unsent: true }, request(1), { ...request(2), unsent: true }]
  assert.deepEqual(await outbox.list(), expected)
  // As a process that is killed leaves it.
  await writeFile(`${path}.copy`, await readFile(path))
  const copy = await file(`${path}.copy`).open()
  assert.deepEqual(await copy.list(), expected)
  await copy.close()
  await outbox.close()
  assert.deepEqual(await idsIn(path), ['r0', 'r1', 'r2'])
})

test('an id that was removed may come again', async (t) => {
  const path = await pathFor(t)
  const outbox = await file(path).open()
  await outbox.add(request(1))
  await outbox.remove('r1')
  await outbox.add(request(1))
  await outbox.close()
  assert.deepEqual(await idsIn(path), ['r1'])
})

test('cut at any byte, it has what was written whole, and takes more', async (t) => {
  const path = await pathFor(t)
  const outbox = await file(path).open()
  for (let i = 0; i < 4; i++) await outbox.add(request(i))
  await outbox.remove('r1')
  // Closing would forget the removed one.
  const bytes = await readFile(path)
  await outbox.close()
  const lines = bytes.toString().split('\n').slice(0, -1)
  for (let length = 0; length <= bytes.length; length++) {
    await writeFile(path, bytes.subarray(0, length))
    const whole = bytes.subarray(0, length).toString().split('\n').length - 1
    const expected = [...Array(whole).keys()].flatMap((i) => (i < 4 ? [`r${i}`] : []))
    assert.deepEqual(await idsIn(path), whole > 4 ? ['r0', 'r2', 'r3'] : expected, `${length} bytes`)
    if (length % 50 > 0) continue
    const again = await file(path).open()
    await again.add(request(9))
    await again.close()
    assert.ok((await idsIn(path)).includes('r9'))
  }
  assert.equal(lines.length, 5)
})

test('torn in the middle of lines that were written together, none of which was promised', async (t) => {
  const path = await pathFor(t)
  const outbox = await file(path).open()
  await outbox.add(request(1))
  await outbox.close()
  await appendFile(path, `{"stored":{"requ\n\0\0\0\n\0\0`)
  assert.deepEqual(await idsIn(path), ['r1'])
})

test('a line that was promised and is damaged is not skipped', async (t) => {
  const path = await pathFor(t)
  const outbox = await file(path).open()
  for (let i = 1; i <= 3; i++) await outbox.add(request(i))
  await outbox.close()
  const text = await readFile(path, 'utf8')
  const damaged = text.replace('{"stored":{"requestId":"r2"', '{"stored":{"requestId":"r2')
  await writeFile(path, damaged)
  await refused(file(path).open(), 'outbox-damaged', 'operator', /Line 2 of the outbox .*outbox\.jsonl/)
  assert.equal(await readFile(path, 'utf8'), damaged, 'nothing was changed')
})

test('it is written anew now and then, so it does not grow with what is long settled', async (t) => {
  const path = await pathFor(t)
  const outbox = await file(path).open()
  await outbox.add(request(0))
  for (let i = 1; i <= 2_000; i++) {
    const added = outbox.add(request(i))
    if (i % 50 === 0) await added
    if (i > 60) await outbox.remove(`r${i - 60}`)
  }
  const { size } = await stat(path)
  assert.ok(size < 150_000, `${size} bytes`)
  const expected = ['r0', ...Array.from({ length: 60 }, (_, i) => `r${1_941 + i}`)]
  assert.deepEqual(
    (await outbox.list()).map(({ requestId }) => requestId),
    expected,
  )
  await outbox.close()
  assert.deepEqual(await idsIn(path), expected)
})

test('one user at a time', async (t) => {
  const path = await pathFor(t)
  const box = file(path)
  const outbox = await box.open()
  await refused(box.open(), 'outbox-failed', 'retry', /has it open/)
  await refused(file(path).open(), 'outbox-failed', 'retry', /has it open/)
  await outbox.close()
  await (await box.open()).close()
})

test('a path where no file can be made is refused', async (t) => {
  const path = join(await pathFor(t), 'no', 'folder')
  await refused(file(path).open(), 'outbox-failed', 'retry', /cannot be used/)
})

test('any course of adds, removals and reopenings keeps what a list would', async (t) => {
  const path = await pathFor(t)
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof(fc.nat(9), fc.integer({ min: -9, max: -1 }), fc.constant('reopen' as const)), {
        maxLength: 40,
      }),
      async (steps) => {
        await rm(path, { force: true })
        const model = new Map<string, StoredRequest>()
        const box = file(path)
        let outbox = await box.open()
        for (const step of steps) {
          if (step === 'reopen') {
            await outbox.close()
            outbox = await box.open()
          } else if (step >= 0) {
            if (!model.has(`r${step}`)) model.set(`r${step}`, request(step))
            await outbox.add(request(step))
          } else {
            model.delete(`r${-step}`)
            await outbox.remove(`r${-step}`)
          }
          assert.deepEqual(await outbox.list(), [...model.values()])
        }
        await outbox.close()
      },
    ),
    { numRuns: 50 },
  )
})

test('links that others have put there lead nowhere', async (t) => {
  const path = await pathFor(t)
  const victim = `${path}.victim`
  await writeFile(victim, '{"settled":"precious"}\n')
  await chmod(victim, 0o644)
  const untouched = async () => {
    assert.equal(await readFile(victim, 'utf8'), '{"settled":"precious"}\n')
    assert.equal((await stat(victim)).mode & 0o777, 0o644)
  }
  for (const name of [path, `${path}.lock`]) {
    await symlink(victim, name)
    await refused(file(path).open(), 'outbox-failed', 'retry', /is a link/)
    await untouched()
    await rm(name)
  }
  await symlink(victim, `${path}.new`)
  const outbox = await file(path).open()
  await outbox.add(request(1))
  await outbox.close()
  await untouched()
  assert.deepEqual(await idsIn(path), ['r1'])
})

test('settled requests are forgotten: by their bytes while it is open, and all of them when it is closed', async (t) => {
  const path = await pathFor(t)
  const outbox = await file(path).open()
  const secret = 'the card of Ada'
  await outbox.add(request(0))
  let largest = 0
  for (let i = 1; i <= 200; i++) {
    await outbox.add({ ...request(i), input: JSON.stringify({ secret, filling: 'x'.repeat(20_000) }) })
    await outbox.remove(`r${i}`)
    largest = Math.max(largest, (await stat(path)).size)
  }
  assert.ok(largest < 200_000, `${largest} bytes`)
  await outbox.close()
  assert.doesNotMatch(await readFile(path, 'utf8'), /Ada|x{100}/)
  assert.deepEqual(await idsIn(path), ['r0'])
})

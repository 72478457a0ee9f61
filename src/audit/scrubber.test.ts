import assert from 'node:assert/strict'
import { mkdtemp, open, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { openFileLog } from '../log/file-log/file-log.ts'
import type { Report } from '../report.ts'
import { Scrubber, type ScrubberOptions } from './scrubber.ts'

async function folderFor(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'hence-scrub-'))
  t.after(() => rm(folder, { recursive: true }))
  return folder
}

const unexpected = ({ message }: Report) => assert.fail(message)

/** A clock of which every look is a pass that ended, or the start. */
function passes(): { readonly clock: { now(): number }; nth(n: number): Promise<void> } {
  let count = 0
  const waiting = new Map<number, () => void>()
  return {
    clock: {
      now() {
        waiting.get(++count)?.()
        return count
      },
    },
    nth: (n) => (count >= n ? Promise.resolve() : new Promise((resolve) => waiting.set(n, resolve))),
  }
}

test('it reads the log again and again, and remembers its last pass', async (t) => {
  const folder = await folderFor(t)
  const log = await openFileLog({ directory: folder, partitions: 2 })
  t.after(() => log.close())
  await log.append(0, [Buffer.from('a')])
  const { clock, nth } = passes()
  const options: ScrubberOptions = { log, folder, clock, report: unexpected, restMs: 1 }
  const scrubber = await Scrubber.open(options)
  await nth(3)
  await scrubber.close()
  assert.ok(scrubber.passedAt! >= 3)
  const again = await Scrubber.open({ ...options, restMs: 3_600_000 })
  assert.equal(again.passedAt, JSON.parse(await readFile(join(folder, 'scrub.json'), 'utf8')).passedAt)
  await again.close()
})

test('damage that nobody has read yet raises an alarm, and the pass does not count', async (t) => {
  const folder = await folderFor(t)
  const log = await openFileLog({ directory: folder })
  t.after(() => log.close())
  for (let i = 0; i < 3; i++) await log.append(0, [Buffer.from(`record ${i}`)])
  const directory = join(folder, 'log/p0000')
  const path = join(directory, (await readdir(directory)).find((name) => name.endsWith('.segment'))!)
  const at = (await readFile(path)).indexOf('record 1')
  const file = await open(path, 'r+')
  await file.write('R', at)
  await file.close()
  const heard = Promise.withResolvers<Report>()
  const scrubber = await Scrubber.open({
    log,
    folder,
    clock: { now: () => 1 },
    report: heard.resolve,
  })
  const { level, code, message } = await heard.promise
  assert.deepEqual([level, code], ['alarm', 'log-damaged'])
  assert.ok(message.includes(path))
  assert.equal(scrubber.passedAt, undefined)
  await scrubber.close()
})

test('it waits for its turn, and stops in the middle of a pass', async (t) => {
  const folder = await folderFor(t)
  const log = await openFileLog({ directory: folder })
  t.after(() => log.close())
  await log.append(0, [Buffer.alloc(10_000)])
  let reading = () => {}
  const begun = new Promise<void>((resolve) => {
    reading = resolve
  })
  const watched = {
    ...log,
    id: log.id,
    partitions: log.partitions,
    append: log.append.bind(log),
    end: log.end.bind(log),
    close: log.close.bind(log),
    read(partition: number, from: number) {
      reading()
      return log.read(partition, from)
    },
  }
  const scrubber = await Scrubber.open({
    log: watched,
    folder: undefined,
    clock: { now: () => 1 },
    report: unexpected,
    bytesPerSecond: 1,
  })
  await begun
  // As much as a pass that did not wait would do, many times over.
  for (let i = 0; i < 20; i++) {
    for await (const { records } of log.read(0, 0)) assert.equal(records.length, 1)
  }
  await scrubber.close()
  assert.equal(scrubber.passedAt, undefined)
})

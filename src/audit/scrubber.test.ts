import assert from 'node:assert/strict'
import { mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { HandClock, settle } from '../../test/hand-clock.ts'
import { type FileLog, openFileLog } from '../log/file-log/file-log.ts'
import type { Log } from '../log/log.ts'
import type { Report } from '../report.ts'
import { openScrubber, type ScrubberOptions } from './scrubber.ts'

/** A folder with a log in it. */
async function logFor(t: TestContext, partitions = 1): Promise<{ folder: string; log: FileLog }> {
  const folder = await mkdtemp(join(tmpdir(), 'hence-scrub-'))
  const log = await openFileLog({ directory: folder, partitions })
  t.after(async () => {
    await log.close()
    await rm(folder, { recursive: true })
  })
  return { folder, log }
}

const unexpected = ({ message }: Report) => assert.fail(message)

/** A log that reports each reading from its beginning. */
function watched(log: Log, onPass: () => void): Log {
  return {
    id: log.id,
    partitions: log.partitions,
    append: log.append.bind(log),
    end: log.end.bind(log),
    close: log.close.bind(log),
    read(partition, from) {
      if (partition === 0 && from === 0) onPass()
      return log.read(partition, from)
    },
  }
}

test('it reads the log again and again, and remembers its last pass', async (t) => {
  const { folder, log } = await logFor(t, 2)
  await log.append(0, [Buffer.from('a')])
  const clock = new HandClock()
  let passes = 0
  let begun = Promise.withResolvers<void>()
  const counted = watched(log, () => {
    passes++
    begun.resolve()
  })
  const options: ScrubberOptions = { log: counted, folder, clock, report: unexpected, restMs: 1_000 }
  const scrubber = await openScrubber(options)
  while (passes < 3) {
    await begun.promise
    begun = Promise.withResolvers()
    // A pass has ended when the next one is due.
    while (clock.next === Number.POSITIVE_INFINITY) await settle()
    clock.pass(clock.next)
  }
  await scrubber.close()
  assert.ok(scrubber.passedAt! > clock.now() - 3_000)
  const again = await openScrubber({ ...options, restMs: 3_600_000 })
  assert.equal(again.passedAt, JSON.parse(await readFile(join(folder, 'scrub.json'), 'utf8')).passedAt)
  await again.close()
})

test('times that a wrong clock noted in the future count for nothing', async (t) => {
  const { folder, log } = await logFor(t)
  const clock = new HandClock()
  const future = clock.now() + 30 * 86_400_000
  await writeFile(join(folder, 'scrub.json'), `{"passedAt":${future}}`)
  await writeFile(join(folder, 'rehearsal.json'), `{"format":"","time":${future},"head":{}}`)
  const rehearsed = Promise.withResolvers<void>()
  const rehearse = async () => {
    rehearsed.resolve()
    return undefined
  }
  const scrubber = await openScrubber({ log, folder, clock, report: unexpected, rehearse })
  assert.deepEqual([scrubber.passedAt, scrubber.rehearsedAt], [undefined, undefined])
  while (clock.next === Number.POSITIVE_INFINITY) await settle()
  clock.pass(clock.next)
  await rehearsed.promise
  await scrubber.close()
})

test('damage in a record that nobody has read raises an alarm, and the pass does not count', async (t) => {
  const { folder, log } = await logFor(t)
  for (let i = 0; i < 3; i++) await log.append(0, [Buffer.from(`record ${i}`)])
  const directory = join(folder, 'log/p0000')
  const path = join(directory, (await readdir(directory)).find((name) => name.endsWith('.segment'))!)
  const at = (await readFile(path)).indexOf('record 1')
  const file = await open(path, 'r+')
  await file.write('R', at)
  await file.close()
  const reported = Promise.withResolvers<Report>()
  const scrubber = await openScrubber({
    log,
    folder,
    clock: { now: () => 1 },
    report: reported.resolve,
  })
  const { level, code, message } = await reported.promise
  assert.deepEqual([level, code], ['alarm', 'log-damaged'])
  assert.ok(message.includes(path))
  assert.equal(scrubber.passedAt, undefined)
  await scrubber.close()
})

test('it keeps to its pace, and stops in the middle of a pass', async (t) => {
  const { log } = await logFor(t)
  await log.append(0, [Buffer.alloc(10_000)])
  let reading = () => {}
  const begun = new Promise<void>((resolve) => {
    reading = resolve
  })
  const scrubber = await openScrubber({
    log: watched(log, () => reading()),
    folder: undefined,
    clock: { now: () => 1 },
    report: unexpected,
    bytesPerSecond: 1,
  })
  await begun
  // As much as many passes that do not wait.
  for (let i = 0; i < 20; i++) {
    for await (const { records } of log.read(0, 0)) assert.equal(records.length, 1)
  }
  await scrubber.close()
  assert.equal(scrubber.passedAt, undefined)
})

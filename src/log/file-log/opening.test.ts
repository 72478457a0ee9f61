import assert from 'node:assert/strict'
import { test } from 'node:test'
import { filesOf } from '../../../test/faults/disk-files.ts'
import { settle } from '../../../test/hand-clock.ts'
import type { Clock } from '../../clock.ts'
import { type Fault, simulatedDisk } from '../../testing/simulated-disk.ts'
import { openFileLog } from './file-log.ts'

test('a log that could not be opened, whichever call failed, is not written later', async () => {
  let failing = Number.POSITIVE_INFINITY
  for (let n = 1, isOpen = false; !isOpen; n++) {
    const fault = ({ number }: { number: number }): Fault | undefined =>
      number === failing ? 'fail' : undefined
    const disk = simulatedDisk({ random: () => 0.5, fault })
    let time = 0
    let timers = new Set<() => void>()
    const timer = (_: number, done: () => void) => {
      timers.add(done)
      return () => timers.delete(done)
    }
    const clock: Clock = { now: () => time, elapsed: () => time, timer }
    const open = () =>
      openFileLog({ directory: '/data', partitions: 2, segmentBytes: 2048, disk, clock, report: () => {} })
    const killed = await open()
    for (const partition of [0, 1]) await killed.append(partition, [Buffer.from('a record')])
    disk.endProcess()
    timers = new Set()
    failing = disk.operations + n
    const opening = await open().catch((error: Error) => error)
    failing = Number.POSITIVE_INFINITY
    isOpen = !(opening instanceof Error)
    const left = await filesOf(disk, '/data')
    // Now an open log seals what the killed process left.
    time += 1_000
    for (const done of timers) done()
    await settle()
    const isWritten = [...(await filesOf(disk, '/data'))].some(
      ([path, bytes]) => !left.get(path)?.equals(bytes),
    )
    assert.equal(isWritten, isOpen, `call ${n}`)
  }
})

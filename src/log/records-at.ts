import type { Log } from './log.ts'

/** Up to so many records are rather passed by than left out by a reading of its own. */
const passedMax = 2_000

/**
 * Reads some records of a partition, in their order; many of them cost far less than as many readings.
 * @param offsets ascending, and before the end of the partition
 */
export async function* recordsAt(
  log: Log,
  partition: number,
  offsets: readonly number[],
): AsyncGenerator<{ readonly offset: number; readonly bytes: Buffer }> {
  let at = 0
  while (at < offsets.length) {
    const before = at
    for await (const { offset: first, records } of log.read(partition, offsets[at]!)) {
      const end = first + records.length
      for (; at < offsets.length && offsets[at]! < end; at++) {
        const offset = offsets[at]!
        yield { offset, bytes: records[offset - first]! }
      }
      if (at === offsets.length || offsets[at]! - end > passedMax) break
    }
    if (at === before) throw new Error(`Partition ${partition} ends before offset ${offsets[at]}.`)
  }
}

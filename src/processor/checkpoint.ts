import { assert } from '../assert.ts'
import type { ControlFact } from '../log/control-history.ts'
import type { Link } from '../log/log.ts'
import type { Codec } from '../state/cells.ts'
import type { SavedDerivedOrder } from './derived-order.ts'
import type { SavedPassedEvents } from './passed-events.ts'
import type { SavedQueue } from './spilled-queues.ts'
import type { SavedTraces } from './traces.ts'
import type { SavedWatermark } from './watermarks.ts'

/** The state of a processor, which is saved together with the rows. */
export interface Checkpoint extends SavedTraces {
  readonly logId: string
  readonly generation: number
  /** Its number, and its ancestors; left out in checkpoints of earlier versions. */
  readonly lineage?: readonly number[]
  /** The version of the code that derives the next records. */
  readonly version: string
  /** The offset that each partition was derived up to. */
  readonly positions: readonly number[]
  readonly time: number
  readonly channels: readonly SavedQueue[]
  /** By partition: the last batch that was derived from, with its hash in hexadecimal; null: none. */
  readonly links: readonly ({ readonly offset: number; readonly hash: string } | null)[]
  /** Log time of the last record of each partition. */
  readonly times: readonly number[]
  /** By partition: how far ids are forgotten. */
  readonly watermarks: readonly SavedWatermark[]
  /** The control records so far. */
  readonly history: readonly ControlFact[]
  /** By partition: the number of the last correction of the last promotion, or -1. */
  readonly corrected: readonly number[]
  readonly correctedCount: number
  /** By partition: how many records of filled rows were applied after the last control record; none if left out. */
  readonly filled?: Readonly<Record<number, number>>
  /** The messages under way of a generation that is not live. */
  readonly placing: SavedDerivedOrder
  /** The events of the live generation that it has passed; left out in checkpoints of earlier versions. */
  readonly passed?: SavedPassedEvents
}

export const checkpointCodec: Codec<Checkpoint> = { encode: JSON.stringify, decode: JSON.parse }

/** The last batches that a checkpoint was derived from. */
export function linksOf({ links }: Pick<Checkpoint, 'links'>): (Link | undefined)[] {
  return links.map((link) =>
    link ? { offset: link.offset, hash: Buffer.from(link.hash, 'hex') } : undefined,
  )
}

/** Checks that a checkpoint belongs to this log and generation, and that its parts fit each other. */
export function checkCheckpoint(
  saved: Checkpoint,
  logId: string,
  generation: number,
  partitions: number,
): void {
  assert(saved.logId === logId, 'a checkpoint belongs to the log', saved.logId, logId)
  assert(
    saved.generation === generation,
    'a checkpoint belongs to the generation',
    saved.generation,
    generation,
  )
  const { positions, links, times, tracesFrom, feedFrom, corrected, untraced, watermarks } = saved
  for (const list of [positions, links, times, tracesFrom, feedFrom, corrected, untraced, watermarks]) {
    assert(list.length === partitions, 'a checkpoint has every partition', list.length, partitions)
  }
  for (const [partition, position] of positions.entries()) {
    assert(Number.isSafeInteger(position) && position >= 0, 'a position is an offset', position)
    const link = links[partition]
    assert(
      !link || link.offset < position,
      'a link is that of a batch that was derived',
      link?.offset,
      position,
    )
    const from = feedFrom[partition]!
    assert(from <= position, 'changes are traced from a record on that was applied', from, position)
    assert(
      times[partition]! <= saved.time,
      'no partition is later than the latest',
      times[partition],
      saved.time,
    )
  }
  for (const { applied, next } of [...saved.channels, ...saved.placing])
    assert(applied <= next, 'no more messages are applied than were sent', applied, next)
  for (const [index, { number }] of saved.history.entries()) {
    assert(number === index, 'control records are numbered without gaps', number, index)
  }
}

import { createHash } from 'node:crypto'
import type { Emission } from '../derivation/chain.ts'
import type { EventRecord, RequestRecord, ResultRecord } from '../log/record.ts'

/**
 * Decides where the events of a generation are applied in their target partitions. `Channels` does so for the
 * live generation, whose events stand in the log, and `DerivedEventOrder` for any other. A promotion changes
 * which one is in force; no message is under way then.
 */
export interface EventOrder {
  /** Whether no message is under way. */
  readonly isEmpty: boolean

  /**
   * Takes an event that a derivation emitted.
   * @param source the partition of the derivation
   * @param time log time of the record that caused it, in milliseconds since 1970
   * @returns the event as its target applies it
   */
  send(source: number, target: number, event: Omit<EventRecord, 'channelNumber'>, time: number): EventRecord

  /**
   * Takes a request or result that by this code belongs to another partition than that of its record.
   * @param source the partition of its record
   * @param key the partition key that it belongs to
   * @throws HenceError `divergence` (operator) if the generation is live
   */
  move(source: number, message: DueMessage, key: string): void

  /**
   * Looks up which event to apply at the position of an event in its target's log.
   *
   * @returns the event to apply, which may differ from the log's; undefined if there is none; `early`
   *   if the cause has not been derived yet, as in a replay, where partitions advance side by side
   * @throws HenceError `divergence`, `channel-gap` (operator)
   */
  arrive(target: number, recorded: EventRecord, isCauseDerived: boolean): EventRecord | 'early' | undefined

  /**
   * Applies the messages that come before the event that `arrive` has returned, at the place of that event.
   * If `apply` throws, its message is kept.
   * @param time log time of the place, in milliseconds since 1970
   */
  applyAhead(target: number, recorded: EventRecord, time: number, apply: (message: DueMessage) => void): void

  /** Takes note that the target has passed an event of its log, and applied what `arrive` returned. */
  passed(target: number, recorded: EventRecord, applied: EventRecord | undefined): void

  /**
   * Applies the messages that have no place in the log and come before a time, in order. If `apply` throws,
   * its message is kept.
   * @param before log time, in milliseconds since 1970; infinity where everything under way must be applied
   * @param timeOf returns the log time of the last record, or message between records, that a partition has
   *   applied
   * @param max it ends with the round in which it has applied so many
   * @returns how many messages were applied
   */
  applyDue(
    before: number,
    timeOf: (partition: number) => number,
    apply: (message: DueMessage) => void,
    max: number,
  ): number

  /** Whether `applyDue` would apply anything. */
  isDue(before: number, timeOf: (partition: number) => number): boolean
}

/** A message that is applied between two records of a partition. */
export interface DueMessage {
  /** Log time of its cause, in milliseconds since 1970; when it is applied, its own log time. */
  readonly time: number
  readonly target: number
  /** The position of its cause. */
  readonly partition: number
  readonly offset: number
  readonly record: EventRecord | RequestRecord | ResultRecord
  /** The position of the request, if the message is a request that moved. */
  readonly root: { readonly partition: number; readonly offset: number } | undefined
}

/** Names a message that is applied between two records, whatever its position. */
export function nameOf(record: DueMessage['record']): string {
  const id = record.kind === 'event' ? record.id : record.kind === 'result' ? record.effect : record.identity
  return createHash('sha256').update(id, 'latin1').digest('hex').slice(0, 32)
}

/** An event of the live generation, as another generation needs to know it. */
export type RecordedEvent = Pick<EventRecord, 'id' | 'causePartition' | 'causeOffset'>

/** The record of an event that a derivation emitted; its cause stands at the position. */
export function eventOf(
  { type, version, key, data, origin, chain }: Emission,
  generation: number,
  causePartition: number,
  causeOffset: number,
): Omit<EventRecord, 'channelNumber'> {
  return {
    kind: 'event',
    generation,
    causePartition,
    causeOffset,
    rootPartition: chain.rootPartition,
    rootOffset: chain.rootOffset,
    identity: chain.identity,
    depth: origin.depth,
    type,
    version,
    key,
    id: origin.seed,
    data: JSON.stringify(data),
  }
}

/** A position as one number: there are at most 1,024 partitions, and no partition has 2^43 records. */
export function positionNumber(partition: number, offset: number): number {
  return offset * 1_024 + partition
}

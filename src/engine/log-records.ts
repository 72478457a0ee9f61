import { leafHash } from '../audit/tree.ts'
import { principalOf } from '../identity.ts'
import type { Log } from '../log/log.ts'
import { everyPartition, partitionOf } from '../log/partitions.ts'
import { decodeRecord } from '../log/record.ts'
import { exportLine } from '../log/record-line.ts'
import type { Processor } from '../processor/processor.ts'
import type { RequestPath } from './request-path.ts'

/** The records of the log, for operators. */
export interface LogRecords {
  /** By partition: the offset of the next durable record. */
  ends(): Promise<number[]>
  /** The partition of a partition key. */
  partitionOf(key: string): number
  /**
   * The records of a partition from an offset on, in order.
   * @throws HenceError `log-damaged` (operator)
   */
  read(partition: number, from: number): AsyncGenerator<LoggedRecord>
}

/** A record as the log holds it. */
export interface LoggedRecord {
  readonly offset: number
  /** Log time, in milliseconds since 1970. */
  readonly time: number
  /** Its type, or its kind if it has none; and its sender, for requests and events. */
  readonly type: string
  readonly principal: string | undefined
  /** Of a request that is decided: `accepted`, `rejected` or `failed`; the first one, as its sender got it. */
  readonly outcome: string | undefined
  /** Whether anything was derived under a partition key with it, as far back as stories are kept. */
  hasKey(key: string): boolean
  /** As JSON text: a line of `hence log cat --json`, and for a request `outcome`, `reason` and `corrected`. */
  readonly json: string
  readonly bytes: Buffer
  /** The hash of its leaf in the tree of its partition, and of everything before its batch. Hexadecimal. */
  hashes(): { readonly leaf: string; readonly batch: number; readonly before?: string }
}

export function logRecordsOf(log: Log, path: RequestPath): LogRecords {
  return {
    partitionOf: (key) => partitionOf(key, log.partitions),
    ends: () => Promise.all(everyPartition(log).map((partition) => log.end(partition))),
    async *read(partition, from) {
      const { processor } = await path.settled()
      const keys = new DerivedKeys(processor, partition)
      for await (const { offset: batch, time, before, records } of log.read(partition, from)) {
        for (const [i, bytes] of records.entries()) {
          const offset = batch + i
          if (offset < from) continue
          const record = decodeRecord(bytes)
          const decided = record.kind === 'request' ? processor.decided(record.identity) : undefined
          // A retry that raced with the first is in the log too, and decides nothing.
          const isFirst = decided?.partition === partition && decided.offset === offset
          const { outcome, corrected } = isFirst ? decided : {}
          const more = outcome && {
            outcome: outcome.status,
            ...(outcome.status === 'rejected' && { reason: outcome.reason }),
            ...(outcome.status === 'failed' && { reason: outcome.code }),
            ...(corrected && { corrected: corrected.status }),
          }
          const line = exportLine({ partition, offset, time, record })
          yield {
            offset,
            time,
            bytes,
            type: 'type' in record ? record.type : record.kind,
            principal: 'identity' in record ? principalOf(record.identity) : undefined,
            outcome: outcome?.status,
            hasKey: (key) => keys.has(offset, key),
            json: more === undefined ? line : `${line.slice(0, -1)},${JSON.stringify(more).slice(1)}`,
            hashes: () => ({
              leaf: leafHash(bytes).toString('hex'),
              batch,
              ...(before && { before: before.toString('hex') }),
            }),
          }
        }
      }
    },
  }
}

/** The partition keys that something was derived under, for offsets that ascend. */
class DerivedKeys {
  readonly #processor: Processor
  readonly #partition: number
  #keys = new Map<number, Set<string>>()
  /** The offset that is to be read next. */
  #next = 0

  constructor(processor: Processor, partition: number) {
    this.#processor = processor
    this.#partition = partition
  }

  has(offset: number, key: string): boolean {
    const [partition, { traces, positions }] = [this.#partition, this.#processor]
    if (offset >= this.#next) {
      const found = traces.from({ partition, offset }, tracesPerRead)
      this.#keys = new Map(found.map(({ offset }) => [offset, new Set()]))
      for (const { offset, trace } of found)
        for (const { key } of trace.derivations) this.#keys.get(offset)!.add(key)
      // The last may go on in traces that were not read.
      const end = found.length < tracesPerRead ? positions[partition]! : found.at(-1)!.offset
      this.#next = Math.max(offset + 1, end)
    }
    return this.#keys.get(offset)?.has(key) ?? false
  }
}

const tracesPerRead = 256

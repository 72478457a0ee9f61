import { leafHash } from '../audit/tree.ts'
import { principalOf } from '../identity.ts'
import type { Log } from '../log/log.ts'
import { everyPartition } from '../log/partitions.ts'
import { decodeRecord } from '../log/record.ts'
import { exportLine } from '../log/record-line.ts'
import type { RequestPath } from './request-path.ts'

/** The records of the log, for operators. */
export interface LogRecords {
  /** By partition: the offset of the next durable record. */
  ends(): Promise<number[]>
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
  /** As JSON text: a line of `hence log cat --json`, and for a request `outcome`, `reason` and `corrected`. */
  readonly json: string
  readonly bytes: Buffer
  /** The hash of its leaf in the tree of its partition, and of everything before its batch. Hexadecimal. */
  hashes(): { readonly leaf: string; readonly batch: number; readonly before?: string }
}

export function logRecordsOf(log: Log, path: RequestPath): LogRecords {
  return {
    ends: () => Promise.all(everyPartition(log).map((partition) => log.end(partition))),
    async *read(partition, from) {
      const { processor } = await path.settled()
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

import type { HenceError } from '../failure.ts'
import type { Codes } from '../generation/codes.ts'
import { mayBeSent } from '../generation/derive-tail.ts'
import type { Generation, GenerationHost } from '../generation/generation.ts'
import { type ControlFact, wasLiveAt } from '../log/control-history.ts'
import type { Log } from '../log/log.ts'
import { type CorrectionRecord, encodeRuling, type Ruling, type RulingRecord } from '../log/record.ts'
import type { Processor } from '../processor/processor.ts'
import type { Reporter } from '../report.ts'
import type { InterruptionCode } from '../sandbox/timed.ts'
import type { Storage } from '../storage/storage.ts'
import type { LiveProgress } from './follower.ts'
import type { Foreground } from './pace.ts'
import type { GenerationVersion } from './reprocessing.ts'

/** The services of the engine that reprocessing uses. */
export interface ReprocessorHost extends Omit<Foreground, 'sliceMsMax'> {
  readonly checkpointRows: number
  /** Resolves when the live generation has caught up, if an interruption made it start over. */
  settled(): Promise<unknown>
  /** Low watermark: no future record can have a smaller log time. */
  lowWatermark(): number
  /** Holds new requests back and drains those in flight, then acts; then requests go on. */
  quiesce<T>(act: () => Promise<T>): Promise<T>
  /** Ends the attempts to deliver effects. */
  stopDelivery(): Promise<void>
  startDelivery(): void
  /** Called in the moment in which another generation becomes live. */
  promoted(): void
  write(partition: number, record: CorrectionRecord, bytes: Buffer): void
  /** Resolves when the live generation has applied the record, or its append has failed. */
  written(partition: number, record: RulingRecord, bytes: Buffer): Promise<void>
  /** Resolves when everything written is applied. */
  idle(): Promise<void>
  /** Stops the engine, because continuing could do harm. */
  halt(error: unknown): void
  /** Why the engine is closed or stopped; undefined while it works. */
  closed(): HenceError | undefined
  readonly report: Reporter
}

/** The parts of the engine that reprocessing reads and changes. */
export interface ReprocessParts {
  readonly log: Log
  readonly storage: Storage
  readonly codes: Codes
  readonly generations: GenerationHost
  /** The generation that is live; `Promoter` replaces it. */
  live: Generation
}

export type ReprocessContext = ReturnType<typeof reprocessContext>

export function reprocessContext(parts: ReprocessParts, host: ReprocessorHost) {
  const context = {
    ...parts,
    host,
    /** All control records that the live generation has passed. */
    get history(): readonly ControlFact[] {
      return context.live.processor.history
    },
    get liveVersion(): GenerationVersion {
      return { generation: context.live.number, version: context.live.program.version }
    },
    /**
     * How far the live generation has come; if `beyond` is given, once it has applied a record behind that.
     * All events under way are in memory then: a candidate needs to know each of them.
     */
    async liveProgress(beyond?: readonly number[]): Promise<LiveProgress> {
      const isThere = ({ positions, channels }: Processor) =>
        !channels.hasDropped && (!beyond || positions.some((next, partition) => next > beyond[partition]!))
      while (!isThere(context.live.processor)) await host.next()
      await host.settled()
      const { processor } = context.live
      const { positions } = processor
      return {
        positions: [...positions],
        lowWatermark: host.lowWatermark(),
        inFlight: positions.map((_, target) => [...processor.channels.waitingFor(target)]),
      }
    },
    /**
     * Writes a ruling that a candidate needs. If that fails, the candidate meets the record again.
     * @returns the positions of the live generation behind it
     * @throws HenceError `derivation-too-long`, `derivation-too-large`, `derivation-too-deep` (operator) if
     *   the outcome by the same code may have been sent
     */
    async rule(generation: number, partition: number, ruling: Ruling): Promise<readonly number[]> {
      const { version, offset, code, n, kind, type, key } = ruling
      const at = { partition, offset }
      if (wasLiveAt(context.history, at, generation, version))
        throw mayBeSent({ code: code as InterruptionCode, at, derivation: { n: n!, kind, type, key } })
      await host.written(partition, { kind: 'ruling', generation, ruling }, encodeRuling(ruling, generation))
      return [...context.live.processor.positions]
    },
  }
  return context
}

import type {
  App,
  Enqueued,
  Reply,
  RequestInput,
  RequestName,
  RequestReason,
  RequestValue,
  Service,
} from '../app/index.ts'
import type { SubmitOptions } from '../app/service.ts'
import type { Publish } from '../audit/publisher.ts'
import type { Clock } from '../clock.ts'
import type { Handlers } from '../effect/handlers.ts'
import type { Changes } from '../query/reader.ts'
import type { Story } from '../query/story.ts'
import type { Reporter } from '../report.ts'
import type { Reprocessing } from '../reprocess/reprocessing.ts'
import type { Storage } from '../storage/storage.ts'
import type { Audit } from './audit.ts'
import type { Effects } from './effects.ts'
import type { Violations } from './violations.ts'

export interface EngineOptions<A extends App> {
  /** The app; its schemas validate inputs, its definitions give the types. */
  readonly app: A
  /**
   * Path or file URL of the pure module that exports the app as its default: derivations then run in a
   * sandbox that is made of it. Without it they run in the realm of the process, under guards.
   */
  readonly module?: string
  /** The directory of the log and of all that is derived from it; made when it is missing. */
  readonly data: string | Storage
  /** How many partitions a new log gets, 1 to 1,024; an existing log has what it has. Default 1. */
  readonly partitions?: number
  /**
   * What to do when the code is not that which is in force.
   *
   * - `refuse`, the default: `code-changed`, and nothing is touched.
   * - `continue`: what is derived stays, and the new code derives what comes from here on; the log records where.
   * - `reprocess`: everything is derived again with the new code and promoted before the engine is ready, with the corrections
   *   that follow; to look at the differences first, use `reprocessing` with the old code running.
   */
  readonly onCodeChange?: 'refuse' | 'continue' | 'reprocess'
  /** The apps of earlier versions that the log was derived by, for engines without `module`; those with one keep their code. */
  readonly earlier?: readonly App[]
  /** Dev mode: derive every record twice and compare, and hold rows against their schemas. Default false. */
  readonly check?: boolean
  /** How long a request id is taken after its making, in milliseconds. Default 30 days. */
  readonly windowMs?: number
  /** How many bytes of requests may wait for their outcome. Default 64 MiB. */
  readonly queueBytesMax?: number
  /** How many changed rows gather in memory before they are written to the state. Default 50,000. */
  readonly checkpointRows?: number
  /** Does the effects that the app asks for; without it they are kept and not delivered. */
  readonly handlers?: Handlers<A>
  /**
   * Wait until the process that has the directory has closed it, instead of `data-in-use`: a deploy is then a
   * hand-over. All that can be prepared without the directory is prepared before. Default false.
   */
  readonly wait?: boolean
  /** Ends that waiting: `createEngine` then throws the signal's reason. */
  readonly signal?: AbortSignal
  /**
   * Hash the log into trees, behind its end, and sign their heads, at least every second while there is something
   * new; `receipt` needs it. Also read the whole log again, slowly, for damage that nobody has met yet. `publish`
   * shows the newest head to somebody else, or to several. Default false.
   */
  readonly audit?: boolean | { readonly publish: Publish | readonly Publish[] }
  /** Hears what an operator should know. Default: warnings and alarms go to standard error. */
  readonly report?: Reporter
  readonly clock?: Clock
  /** Numbers in [0, 1), for delays between tries only. Default: `Math.random`. */
  readonly random?: () => number
}

/** Takes requests, derives tables from them, and answers from the tables. */
export interface Engine<A extends App> extends Service<A> {
  /** The app that it was opened with, or that was promoted since. */
  readonly app: A
  /**
   * Sends a request; resolves when it is durable and decided. However often it is sent with one id, it is
   * derived once, and every reply is the first one.
   *
   * @throws HenceError with advice
   * - `retry` (the same id again): `overloaded`, `log-write-failed`, `engine-closed`
   * - `change`: `unknown-request`, `input-not-json`, `input-invalid`, `schema-unusable`, `key-invalid`,
   *   `key-too-long`, `value-too-large`, `request-id-invalid`, `principal-invalid`, `request-id-reused`,
   *   `request-id-expired`, `request-id-from-the-future`; nothing was written
   * - `operator`: `engine-stopped`, `log-damaged`
   */
  submit<N extends RequestName<A>>(
    type: N,
    input: RequestInput<A, N>,
    options: SubmitOptions,
  ): Promise<Reply<RequestValue<A, N>, RequestReason<A, N>>>
  /**
   * Like `submit`, but resolves as soon as the request is durable; what becomes of it is told by `submit` with the
   * same id, and by `story`. Throws what `submit` throws.
   */
  enqueue<N extends RequestName<A>>(
    type: N,
    input: RequestInput<A, N>,
    options: SubmitOptions,
  ): Promise<Enqueued>
  /** All that became of a request; undefined when its id is not known (any more). */
  story(requestId: string, options?: { readonly principal?: string }): Promise<Story | undefined>
  /**
   * Changed rows, record by record, from a position on (that record left out) and then as they come; without
   * a position from now on. It reads what is stored, so it may be slow, and may go on after a restart. Ends when
   * the signal aborts or the engine closes.
   * @throws HenceError `position-unknown` (change), when what came after the position is no longer kept
   */
  changes(options?: { readonly from?: string; readonly signal?: AbortSignal }): AsyncIterable<Changes>
  /** The present position: take it, read a table, and hear what changes from then on by `changes`. */
  position(): string
  /** Violations of constraints, and decisions about them. */
  readonly violations: Violations
  /** The effects that the app asked for. */
  readonly effects: Effects
  /** Signed tree heads and proofs over the log. */
  readonly audit: Audit
  /** Deriving everything again with other code, comparing, and making it live. */
  readonly reprocessing: Reprocessing
  /** Resolves when everything that was taken, with all events that follow, has been applied. */
  idle(): Promise<void>
  /** SHA-256 over all tables, in hexadecimal: equal tables have equal digests, however they came about. */
  digest(): Promise<string>
  /** A snapshot of the engine's counters, which live in memory; nothing is read. */
  stats(): EngineStats
  /** Takes nothing more, finishes what was taken, saves the state, and releases the directory. */
  close(): Promise<void>
}

export interface EngineStats {
  readonly logId: string
  /** The version of the code. */
  readonly version: string
  /** The generation of derived state that is live: 0 until another one is promoted. */
  readonly generation: number
  /** Records applied, by partition. */
  readonly applied: readonly number[]
  /** Requests that wait for their outcome, and their bytes. */
  readonly inFlight: number
  readonly queuedBytes: number
  /** Changed rows that wait for the next checkpoint. */
  readonly dirtyRows: number
  /** Log time of the last record, in milliseconds since 1970. */
  readonly logTime: number
  /** When the next timer goes off, in log time; undefined when there is none. */
  readonly nextTimerAt: number | undefined
  /** When the oldest effect that is not delivered was asked for, in log time; undefined when there is none. */
  readonly oldestEffectAt: number | undefined
  /** When the newest tree head was signed, in milliseconds since 1970; undefined without one. */
  readonly headAt: number | undefined
  /**
   * When the whole log was last read again in the background and found right, in milliseconds since 1970; undefined
   * before that, and without `audit`.
   */
  readonly scrubbedAt: number | undefined
  /** Records that were read again from the log when the engine started. */
  readonly replayed: number
  /** Replies since the start, by their outcome; `replayed` are those that were not the first. */
  readonly replies: Readonly<Record<'accepted' | 'rejected' | 'failed' | 'replayed', number>>
}

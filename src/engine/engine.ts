import type { App, KeyPart, ReadOptions, RequestName, Row, Service, TableName } from '../app/index.ts'
import type { SubmitOptions } from '../app/service.ts'
import type { Publish } from '../audit/publisher.ts'
import type { Clock } from '../clock.ts'
import type { RedriveInput, ResolveInput } from '../derivation/operator.ts'
import type { Handlers } from '../effect/handlers.ts'
import type { HenceError } from '../failure.ts'
import type { Carrier } from '../log/carrier.ts'
import type { ChangePlace, RowHistory } from '../query/history.ts'
import type { Changes } from '../query/reader.ts'
import type { Preview, Story } from '../query/story.ts'
import type { Alarm, Reporter } from '../report.ts'
import type { Reprocessing } from '../reprocess/reprocessing.ts'
import type { AppSource } from '../sandbox/bundle.ts'
import type { Storage } from '../storage/storage.ts'
import type { MessagePage } from '../view/messages.ts'
import type { ViewStatus } from '../view/views.ts'
import type { Audit } from './audit.ts'
import type { Effects } from './effects.ts'
import type { Health } from './health.ts'
import type { LogRecords } from './log-records.ts'
import type { StartProgress } from './start-pause.ts'
import type { StateCopy } from './state-copy.ts'
import type { Violations } from './violations.ts'

export interface EngineOptions<A extends App> {
  /**
   * The app: the path or file URL of its pure module, or what `bundleApp` returned. All its code runs in a
   * sandbox. `createEngine<typeof shop>({ app: import.meta.resolve('./shop.ts'), … })` types the engine.
   */
  readonly app: AppSource<A>
  /**
   * The modules of views that are derived beside the app: each a path, a file URL or a bundle. A module that
   * has changed is derived again in the background. A view that none of them defines is dropped; without this
   * option views stay as they are, and are not read.
   */
  readonly views?: readonly AppSource[]
  /** The directory of the log and of everything derived from it; created if it is missing. */
  readonly data: string | Storage
  /**
   * Where the log is, if not in the directory: `postgresLog` of `hence/postgres`, for example. The directory
   * then holds a copy, and what is derived from it. The engine closes it. Default: the directory has the log.
   */
  readonly log?: Carrier
  /** With `log`: the URL where others reach this process. Those that follow it name it. */
  readonly address?: string
  /** The number of partitions of a new log, 1 to 1,024; ignored for an existing log. Default 1. */
  readonly partitions?: number | undefined
  /**
   * How to start if the code differs from the code in force.
   *
   * - `refuse`, the default: throw `code-changed`, and touch nothing.
   * - `continue`: keep the derived state; the new code derives the records to come. The log records where.
   *   Its new tables get rows from the past where it has a fill (`scope.fill`).
   * - `reprocess`: derive everything again with the new code and promote it, with its corrections, before the
   *   engine is ready. To see the differences first, start the old code and use `reprocessing`.
   */
  readonly onCodeChange?: 'refuse' | 'continue' | 'reprocess'
  /** Dev mode: derive every record twice and compare, and check rows against their schemas. Default false. */
  readonly check?: boolean | undefined
  /** How old a request id may be when it arrives, in milliseconds. Default 30 days. */
  readonly windowMs?: number
  /**
   * Limit on the bytes of requests that wait for outcomes, and of the events in memory; beyond it, requests
   * are refused. Default 64 MiB.
   */
  readonly queueBytesMax?: number
  /**
   * Limit on the bytes of all events that wait to be written and applied, most of them on disk; beyond it,
   * requests are refused. Default 1 GiB.
   */
  readonly waitingBytesMax?: number
  /**
   * How long one derivation may take, in milliseconds; time in which the process gets no processor does not
   * count. One that takes longer counts as failed, by a ruling in the log, and the others go on; after a
   * tenth of it an alarm names the record. Default 5,000.
   */
  readonly derivationMs?: number
  /**
   * A folder with a copy of the derived state (`hence backup --state`), or the URL of another process of this
   * log, which sends one. A directory without state begins with it, unless it is damaged or of another log,
   * and derives only what came after.
   */
  readonly state?: string | undefined
  /** For `state` of another process: an API key with the permission `admin`. */
  readonly stateKey?: string | undefined
  /** A checkpoint is made after so many changed rows, and after 16 MiB of them. Default 20,000. */
  readonly checkpointRows?: number
  /** Deliver the app's effects. Without handlers, effects are kept and not delivered. */
  readonly handlers?: Handlers<A> | undefined
  /**
   * Wait until the process that has the directory closes it, instead of throwing `data-in-use`: a deploy is
   * then a hand-over. Everything that does not need the directory is prepared first. With `log`: follow the
   * process that is active on the log, as a warm standby, and take over once it ends or is silent for two
   * seconds, instead of throwing `log-in-use`. Default false.
   */
  readonly wait?: boolean | undefined
  /**
   * With `log` and `wait`: called with a reader once this process, as a standby, has derived the log to its
   * end. The reader answers until this process takes over.
   */
  standby?(standby: Standby<A>): void
  /** Ends the start: `createEngine` then throws the signal's reason. The next start goes on from there. */
  readonly signal?: AbortSignal
  /**
   * Aborted when `close` will follow, for example once a server has answered what is under way. Then a record
   * whose derivation takes too long is left to the next start, and who waits gets `engine-closed` (retry).
   */
  readonly stopping?: AbortSignal
  /**
   * Called while a start derives the end of the log, or follows the process that is active on it: how many
   * records of how many, about every tenth of a second.
   */
  readonly progress?: (progress: StartProgress) => void
  /**
   * Sign tree heads over the log, at least every second while it grows, and scrub the whole log for damage in
   * the background. Receipts need it. `publish` sends each new head elsewhere, for example to a file or a
   * webhook. `newKey` makes a new signing key if the old one is lost. Default false.
   */
  readonly audit?: boolean | { readonly publish?: Publish | readonly Publish[]; readonly newKey?: boolean }
  /** Receives warnings and alarms for operators. Default: prints them to standard error. */
  readonly report?: Reporter
  /**
   * The clock is right, although it is beyond the log's last record by more than `windowMs`; without this
   * such a start throws `clock-unconfirmed`. Default false.
   */
  readonly confirmClock?: boolean | undefined
  /** The clock, for tests and simulations. Default: the system's. */
  readonly clock?: Clock
  /** Returns numbers in [0, 1), used only for delays between attempts. Default: `Math.random`. */
  readonly random?: () => number
}

/** Options of a scan in the process of the engine. */
export interface RowScanOptions extends ReadOptions {
  /** Sees each row; the scan ends with the first that it returns true for, for example to bound its bytes. */
  until?(row: Row): boolean
}

export interface StoryOptions {
  /** The sender of the request. Default: none. */
  readonly principal?: string
  /** The most bytes of its steps, as JSON. Default: no bound. */
  readonly bytesMax?: number
}

export interface HistoryOptions {
  /** The `next` of the reading before. Default: the newest changes. */
  readonly before?: ChangePlace | undefined
  /** How many changes at most. Default: 100. */
  readonly limit?: number
}

/**
 * Accepts requests, derives tables from them, and answers queries from the tables.
 *
 * `submit` and `enqueue` throw a HenceError with advice
 * - `retry` (the same id again): `overloaded`, `log-write-failed`, `log-write-unsure`, `carrier-unreachable`,
 *   `engine-closed`
 * - `change`: `unknown-request`, `input-not-json`, `input-invalid`, `schema-unusable`, `key-invalid`,
 *   `key-too-long`, `value-too-large`, `request-id-invalid`, `principal-invalid`, `request-id-reused`,
 *   `request-id-expired`, `request-id-from-the-future`; nothing was written
 * - `operator`: `engine-stopped`, `log-damaged`
 */
export interface Engine<A extends App> extends Service<A, SubmitOptions, RowScanOptions> {
  /**
   * The app of the live generation, which is the given one until another is promoted, with the views among
   * its tables. Its functions run in the sandbox.
   */
  readonly app: A
  /**
   * The story of a request: everything derived from it. Undefined if its id is unknown, or was forgotten.
   * @throws HenceError `story-too-large` (change) beyond `bytesMax`
   */
  story(requestId: string, options?: StoryOptions): Promise<Story | undefined>
  /**
   * The changes of a row of the app's or of the operators' tables, the last first, each with the request that
   * it follows from; as long as outcomes are kept. A reading ends after some records: go on before `next`.
   * @throws HenceError `unknown-table`, `key-invalid` (change)
   */
  history(table: string, key: readonly KeyPart[], options?: HistoryOptions): Promise<RowHistory>
  /**
   * The changed rows of each record after a position, or from now on, and then of each new record. It reads
   * stored changes, so a reader may be slow, and may resume after a restart. Ends when the signal aborts or
   * the engine closes.
   *
   * With `view`, those of a view: in the order in which it folds records, from a position of `viewPosition`.
   * The latest 10,000 changed rows are kept, in memory. With `effects`, also the effects that were asked for,
   * redriven or ended, each as a row of `hence.effects` in its present state, without `before`.
   * @throws HenceError `position-unknown` (change) if changes after the position are no longer kept, or when
   *   another generation becomes live, or other rows of the view: read the tables again
   */
  changes(options?: {
    readonly from?: string
    readonly signal?: AbortSignal
    readonly view?: string
    readonly effects?: boolean
  }): AsyncIterable<Changes>
  /**
   * The decided requests, events and changed rows of some names, as a view gets them and in that order, after
   * a position, or from the oldest that is kept on (`windowMs`), and then as they come. After a promotion it
   * goes on with those of the generation that is live. Ends when the signal aborts or the engine closes.
   * @throws HenceError `position-unknown` (change) if those after the position are no longer kept
   */
  messages(
    options: {
      readonly requests?: readonly RequestName<A>[] | undefined
      readonly events?: readonly string[] | undefined
      readonly tables?: readonly TableName<A>[] | undefined
    } & { readonly from?: string; readonly signal?: AbortSignal },
  ): AsyncIterable<MessagePage>
  /**
   * The current position, a snapshot of counters in memory. To follow a table, take the position, read the
   * table, and pass the position to `changes`.
   */
  position(): string
  /** The same of a view, for `changes({ view })`. */
  viewPosition(view: string): Promise<string>
  /** Violations of constraints, and decisions about them. */
  readonly violations: Violations
  /** The effects that the app asked for. */
  readonly effects: Effects
  /**
   * The consequences that an operator's request would have now: its outcome, rows that would change and
   * effects that would be asked for. It is derived like the request itself, and undone: nothing is written or
   * sent. Records that come in between may change them.
   * @throws HenceError `unknown-request`, `input-invalid`, `preview-too-long` (change)
   */
  preview(
    type: 'hence:resolve-violation' | 'hence:redrive',
    input: ResolveInput | RedriveInput,
    options?: { readonly principal?: string },
  ): Promise<Preview>
  /** The records of the log. */
  readonly log: LogRecords
  /** Signed tree heads and proofs over the log. */
  readonly audit: Audit
  /** Derives everything again with other code, compares, and promotes. */
  readonly reprocessing: Reprocessing
  /**
   * Takes these modules of views in the place of those before, as the option `views` does.
   * @throws HenceError `bundle-failed`, `app-invalid` (change); then nothing has changed
   */
  useViews(modules: readonly AppSource[]): Promise<void>
  /** Resolves when every request that was accepted, with all events that follow, is applied. */
  idle(): Promise<void>
  /**
   * SHA-256 over all tables, in hexadecimal; equal tables have equal digests, whatever their history. With
   * `view`, over the rows of a view, once it has folded all that is applied.
   * @throws HenceError `view-building` (retry), `view-failed` (operator)
   */
  digest(options?: { readonly view?: string }): Promise<string>
  /**
   * Copies the derived state as its last checkpoint left it, for a new standby: see the option `state`. Read
   * it, or drop it.
   * @throws HenceError `no-state` (change), `state-unreadable`, `file-unusable` (operator)
   */
  copyState(): Promise<StateCopy>
  /**
   * With `log`: 0 while no other process can be active. If this one cannot reach the carrier, or was stopped,
   * another may have taken over: then the milliseconds since it was certain, and rows may be as old.
   */
  readonly ageMs: number
  /** Whether the engine takes requests. Checks its directory, so that a probe learns of a loss at once. */
  health(): Promise<Health>
  /** After the alarm `clock-jumped`: the machine's clock is right, so it is followed from here on. */
  confirmClock(): void
  /** A snapshot of the engine's counters, which live in memory; nothing is read. */
  stats(): EngineStats
  /** Refuses new requests, finishes those accepted, makes a checkpoint, and releases the directory. */
  close(): Promise<void>
}

export interface EngineStats {
  readonly logId: string
  /** The version of the code. */
  readonly version: string
  /** The live generation; 0 until another one is promoted. */
  readonly generation: number
  /** Records applied, by partition. */
  readonly applied: readonly number[]
  /** Requests that wait for their outcome. */
  readonly inFlight: number
  /** The bytes of those requests. */
  readonly queuedBytes: number
  /** The bytes of events that wait to be written and applied. */
  readonly waitingBytes: number
  /** Beyond so many, requests are refused. */
  readonly waitingBytesMax: number
  /** The bytes of those in memory; the others are on disk. */
  readonly heldBytes: number
  /** The age of the oldest record that waits to be written, an event since its cause, in milliseconds. */
  readonly unwrittenMs: number
  /** Rows changed since the last checkpoint. */
  readonly dirtyRows: number
  /** About how many bytes of memory the changed values take; a checkpoint is due at 16 MiB. */
  readonly dirtyBytes: number
  /** About how many bytes of memory the values take that are cached since they are saved: 32 MiB at most. */
  readonly cacheBytes: number
  /** Log time of the last record, in milliseconds since 1970. */
  readonly logTime: number
  /** The first log time as of which rows can be read (`at`); undefined while the log has no record. */
  readonly pastSince: number | undefined
  /** When the next timer goes off, in log time; undefined if none is set. */
  readonly nextTimerAt: number | undefined
  /** When the oldest pending effect was asked for, in log time; undefined if none is pending. */
  readonly oldestEffectAt: number | undefined
  /** When the newest tree head was signed, in milliseconds since 1970; undefined if there is none. */
  readonly headAt: number | undefined
  /**
   * When the last scrub of the whole log that found no damage ended, in milliseconds since 1970; undefined
   * before the first, and without `audit`.
   */
  readonly scrubbedAt: number | undefined
  /** When the log last gave the live state, derived again in the background; else like `scrubbedAt`. */
  readonly rehearsedAt: number | undefined
  /** When all of the stored state was last checked, in milliseconds since 1970; undefined: not yet. */
  readonly stateCheckedAt: number | undefined
  /** How much of the stored state a check in the background has seen, from 0 to 1; undefined without one. */
  readonly stateCheckProgress: number | undefined
  /** Records replayed when the engine started. */
  readonly replayed: number
  /** How far each view is. */
  readonly views: readonly ViewStatus[]
  /** Replies since the start, by outcome; `replayed` counts the retries. */
  readonly replies: Readonly<Record<'accepted' | 'rejected' | 'failed' | 'replayed', number>>
  /** The last alarm of each code since the start. */
  readonly alarms: readonly Alarm[]
}

/**
 * Reads in a process that follows the log while another one is active. They throw `engine-standby` (retry)
 * while the state is not derived to the end of the log for the first time, and once this process takes over.
 */
export interface Standby<A extends App>
  extends Pick<Engine<A>, 'app' | 'get' | 'scan' | 'story' | 'history' | 'copyState'> {
  /**
   * How old the state is: so many milliseconds ago it had everything in the log. Take it before a read: the
   * answer is at most so much older than its arrival.
   */
  readonly ageMs: number
  stats(): Pick<
    EngineStats,
    'logId' | 'version' | 'generation' | 'applied' | 'logTime' | 'pastSince' | 'views'
  >
  /** The error for everything else, with the address of the active process: `engine-standby` (retry). */
  refusal(): HenceError
}

import { type ChildProcess, fork } from 'node:child_process'
import { existsSync } from 'node:fs'
import type { DiffSummary, SummaryOptions } from '../diff/diff-summary.ts'
import { HenceError, operatorError } from '../failure.ts'
import { argvBeside } from '../generation/apart.ts'
import { moduleBeside } from '../module-beside.ts'
import type { Candidate } from './candidate.ts'
import type { ChildFunctions, ChildOptions, EngineFunctions } from './child-protocol.ts'
import { candidatePaused, reprocessFailure } from './errors.ts'
import type { CandidateProgress, FollowerHost, LiveProgress } from './follower.ts'
import type { GenerationVersion } from './reprocessing.ts'
import { RpcConnection } from './rpc.ts'

export type ChildHost = Pick<FollowerHost, 'liveProgress' | 'changed' | 'report'> & {
  readonly rule: EngineFunctions['rule']
  readonly keep: EngineFunctions['keep']
}

const childModule = moduleBeside(import.meta.url, 'child-process')

/** Whether a child process can be started; an application that is bundled into one file has no such module. */
export const canDeriveInChild = (): boolean => existsSync(childModule)

/** The candidate in a child process: live requests wait neither for its turns nor for its garbage. */
export class CandidateChild implements Candidate {
  readonly #options: ChildOptions
  readonly #host: ChildHost
  #child: ChildProcess | undefined
  #connection: RpcConnection<ChildFunctions> | undefined
  #exited: Promise<void> = Promise.resolve()
  #progress: CandidateProgress
  #share: number
  #ended: HenceError | undefined
  #each: SummaryOptions['each']
  /** Settles when the child process is open that took the place of one that ran out of memory. */
  #restarting: Promise<void> | undefined
  /** How often it ran out of memory since it came further, or needed a ruling, and how far it had come. */
  readonly #outOfMemory = { times: 0, records: 0 }

  static async open(host: ChildHost, options: ChildOptions): Promise<CandidateChild> {
    const candidate = new CandidateChild(host, options)
    await candidate.#fork(options)
    return candidate
  }

  private constructor(host: ChildHost, options: ChildOptions) {
    this.#host = host
    this.#options = options
    this.#share = options.share
    const { base: version, paused, share } = options
    this.#progress = { version, state: paused ? 'paused' : 'deriving', records: 0, failures: 0, share }
  }

  get #generation(): number {
    return this.#options.lineage[0]!
  }

  get progress(): CandidateProgress {
    return this.#progress
  }

  async setShare(share: number): Promise<void> {
    this.#share = share
    // If the child process has exited, the next one gets it.
    if (this.#connection) await this.#call('setShare', share)
  }

  async start(): Promise<void> {
    if (this.#connection) return this.#call('start')
    // The child process has exited. A new one continues from the last checkpoint.
    await this.#fork({ ...this.#options, anew: false, share: this.#share, paused: false })
  }

  readonly pause = () => this.#call('pause')
  readonly align = (to: LiveProgress) => this.#call('align', plain(to))
  readonly save = (prune: boolean) => this.#call('save', prune)
  readonly snapshot = (live: GenerationVersion) => this.#call('snapshot', live)
  readonly correctAhead = (...given: Parameters<Candidate['correctAhead']>) =>
    this.#call('correctAhead', ...given)
  readonly writeCorrections = (number: number) => this.#call('writeCorrections', number)
  readonly correct = (...given: Parameters<Candidate['correct']>) => this.#call('correct', ...given)

  async caughtUp(): Promise<void> {
    for (;;) {
      const connection = this.#connection
      try {
        return await this.#call('caughtUp')
      } catch (error) {
        const isRestarting = this.#connection !== undefined && this.#connection !== connection
        if (this.#ended || !isRestarting) throw error
      }
    }
  }

  async compare({ samples, each }: SummaryOptions): Promise<DiffSummary> {
    let thrown: { readonly error: unknown } | undefined
    // The child sends back only a copy of an error that `each` throws; the caller gets the error itself.
    this.#each = async (line) => {
      try {
        await each?.(line)
      } catch (error) {
        thrown = { error }
        throw error
      }
    }
    try {
      return await this.#call('compare', { samples, lines: each !== undefined })
    } catch (error) {
      throw thrown ? thrown.error : error
    } finally {
      this.#each = undefined
    }
  }

  get gone(): Promise<void> {
    return this.#exited
  }

  stopComparing(): void {
    void this.#call('stopComparing').catch(() => {})
  }

  async release(): Promise<void> {
    // If the child has exited, its snapshots are gone.
    if (this.#connection) await this.#call('release')
  }

  end(reason: HenceError): void {
    this.#ended ??= reason
    this.#connection?.abandon(reason)
  }

  async close(reason: HenceError): Promise<void> {
    this.#ended ??= reason
    const connection = this.#connection
    const child = this.#child
    child?.ref()
    child?.channel?.ref()
    // A derivation that does not return keeps the child from saving.
    const timer = setTimeout(() => child?.kill('SIGKILL'), closeMsMax)
    const isClosed = await connection?.call('close').then(
      () => true,
      () => false,
    )
    // It has nothing left to do but free its memory.
    if (isClosed) child?.kill('SIGKILL')
    connection?.lose(reason)
    if (child?.connected) child.disconnect()
    if (!isClosed) await this.#exited
    clearTimeout(timer)
  }

  async #fork(options: ChildOptions): Promise<void> {
    const child = fork(childModule, [], {
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      execArgv: argvBeside(),
    })
    const exited = Promise.withResolvers<void>()
    let silentTicks = 0
    this.#child = child
    this.#exited = exited.promise
    const local: EngineFunctions = {
      liveProgress: async (beyond) => plain(await this.#host.liveProgress(beyond)),
      rule: (partition, ruling) => {
        this.#outOfMemory.times = 0
        return this.#host.rule(partition, ruling)
      },
      keep: (name, text) => this.#host.keep(name, text),
      report: (report) => this.#host.report(report),
      reportProgress: (progress) => {
        // A message of a child that has exited may still arrive.
        if (this.#connection === connection) this.#setProgress(progress)
      },
      takeLines: async (lines) => {
        for (const line of lines) await this.#each?.(line)
      },
    }
    const connection = new RpcConnection<ChildFunctions>(
      {
        // A failure to send is ignored, since the exit event follows.
        send: (message) => child.connected && child.send(message as object, () => {}),
        receive: (listener) =>
          child.on('message', (message) => {
            silentTicks = 0
            listener(message)
          }),
      },
      local,
    )
    this.#connection = connection
    const watchdog = setInterval(() => {
      // Counts ticks rather than time, because a machine may have been asleep.
      if (++silentTicks < silentTicksMax) return
      this.#lost(
        connection,
        'it did not respond for a minute and was killed; a derivation may be in an endless loop',
      )
      child.kill('SIGKILL')
    }, tickMs).unref()
    const onExit = (why: string, isOutOfMemory = false) => {
      clearInterval(watchdog)
      exited.resolve()
      this.#lost(connection, why, isOutOfMemory)
    }
    child.on('error', (error) => {
      // Without a pid it was never started, and no exit event follows.
      if (child.pid === undefined) onExit(error.message)
    })
    child.on('exit', (code, signal) => {
      const why = signal === null ? `it exited with code ${code}` : `it was killed by ${signal}`
      // So V8 ends a process without memory.
      onExit(why, signal === 'SIGABRT' || code === 134)
    })
    // This process must not end for want of work before it knows why the child did.
    child.on('disconnect', () => child.ref())
    child.unref()
    try {
      await this.#call('open', options)
    } catch (error) {
      // Its exit follows from this error, and must not replace it as the reason.
      if (this.#connection === connection) this.#connection = this.#child = undefined
      child.ref()
      if (child.connected) child.disconnect()
      await this.#exited
      this.#fail(reprocessFailure(error, `Generation ${this.#generation} could not be opened`))
      throw error
    }
  }

  async #call<Name extends keyof ChildFunctions>(
    name: Name,
    ...values: Parameters<ChildFunctions[Name]>
  ): Promise<Awaited<ReturnType<ChildFunctions[Name]>>> {
    const connection = this.#connection
    if (this.#ended) throw this.#ended
    if (connection === undefined) throw this.#failure()
    if (this.#restarting && name !== 'open') {
      await this.#restarting
      return this.#call(name, ...values)
    }
    // Keeps this process alive while somebody awaits a reply.
    this.#child?.channel?.ref()
    try {
      return await connection.call(name, ...values)
    } finally {
      this.#updateRef()
    }
  }

  /** Lets this process exit when the candidate is not deriving and nobody awaits a reply. */
  #updateRef(): void {
    const channel = this.#child?.channel
    if (this.#progress.state === 'deriving' || this.#connection?.pendingCount) channel?.ref()
    else channel?.unref()
  }

  #setProgress(progress: CandidateProgress): void {
    const before = this.#progress
    this.#progress = progress
    this.#updateRef()
    if (progress.state !== before.state) this.#host.changed()
  }

  #lost(connection: RpcConnection<ChildFunctions>, why: string, isOutOfMemory = false): void {
    if (this.#connection !== connection) return
    this.#connection = undefined
    this.#child = undefined
    const error = operatorError(
      'reprocess-failed',
      `The process that derives generation ${this.#generation} is gone: ${why}. Its last checkpoint is ` +
        'kept, and requests are served as before; `hence reprocess resume` continues from there.',
    )
    connection.lose(this.#ended ?? error)
    if (isOutOfMemory && !this.#ended && this.#mayRestart()) {
      this.#host.report({
        level: 'warning',
        code: error.code,
        message: `${error.message} It is started again.`,
      })
      const options = { ...this.#options, anew: false, share: this.#share, paused: false }
      // The next to die, or the failure to open, is reported in `progress`.
      this.#restarting = this.#fork(options)
        .catch(() => {})
        .finally(() => {
          this.#restarting = undefined
        })
    } else this.#fail(error)
  }

  /** The record that takes the memory is found, and ruled on, by the fourth process at the latest. */
  #mayRestart(): boolean {
    const { records } = this.#progress
    const before = this.#outOfMemory
    before.times = records > before.records ? 1 : before.times + 1
    before.records = Math.max(records, before.records)
    return before.times <= restartsMax
  }

  #fail({ code, message }: HenceError): void {
    if (this.#ended) return
    const { perSecond: _, ...progress } = this.#progress
    this.#setProgress({ ...progress, state: 'failed', error: { code, message } })
  }

  #failure(): HenceError {
    const { state, error } = this.#progress
    if (state === 'paused') return candidatePaused()
    return new HenceError(
      error?.code ?? 'reprocess-failed',
      'operator',
      error?.message ?? 'Its process is gone.',
    )
  }
}

/** How many processes are started after the first that ran out of memory at one place. */
const restartsMax = 3
/** How long the child may take to save and exit when it is closed, in milliseconds. */
const closeMsMax = 10_000
/** The child sends a message at least every second. After this many ticks without one it counts as hung. */
const tickMs = 5_000
const silentTicksMax = 12

/** A copy that can be sent: of an event in flight, the child needs only the id and the cause. */
function plain({ positions, lowWatermark, inFlight }: LiveProgress): LiveProgress {
  return {
    positions,
    lowWatermark,
    inFlight: inFlight.map((events) =>
      events.map(({ id, causePartition, causeOffset }) => ({ id, causePartition, causeOffset })),
    ),
  }
}

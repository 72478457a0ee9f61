import { type ChildProcess, fork } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { DiffSummary, SummaryOptions } from '../diff/diff-summary.ts'
import { HenceError } from '../failure.ts'
import type { WrittenKeys } from '../state/tracking-store.ts'
import type { Candidate, CorrectionFiles, Live, PromotionToCome } from './candidate.ts'
import type { Deriving, DerivingCalls, EngineCalls } from './child-protocol.ts'
import { type Cut, isPaused, type Progress, reprocessFailure } from './follower.ts'
import { Peer } from './rpc.ts'

/** What one that is derived in a process of its own needs of the engine. */
export interface EngineSide {
  /** See `FollowerHost`. */
  cut(than?: readonly number[]): Promise<Cut>
  /** It has come further in a way that others should know of. */
  changed(): void
}

/** The file of that process: source or built, whatever this file is. */
const file = fileURLToPath(
  new URL(`./child-process${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url),
)

/** Whether there can be such processes: whoever has packed everything into one file has no other one. */
export function canDeriveInChild(): boolean {
  return existsSync(file)
}

/**
 * A generation that is derived beside the live one in a process of its own: it costs live requests neither the turns of their
 * event loop nor pauses of their garbage collector.
 */
export class CandidateChild implements Candidate {
  readonly #deriving: Deriving
  readonly #engine: EngineSide
  #child: ChildProcess | undefined
  #peer: Peer<DerivingCalls> | undefined
  #ended: Promise<void> = Promise.resolve()
  #progress: Progress
  #share: number | undefined
  #over: HenceError | undefined
  #each: SummaryOptions['each']

  static async open(engine: EngineSide, deriving: Deriving): Promise<CandidateChild> {
    const other = new CandidateChild(engine, deriving)
    await other.#begin(deriving)
    return other
  }

  private constructor(engine: EngineSide, deriving: Deriving) {
    this.#engine = engine
    this.#deriving = deriving
    this.#share = deriving.share
    const { base: version, paused, share = 1 } = deriving
    this.#progress = { version, state: paused ? 'paused' : 'deriving', records: 0, failures: 0, share }
  }

  get generation(): number {
    return this.#deriving.lineage[0]!
  }

  get wasLive(): boolean {
    return this.#deriving.wasLive
  }

  get progress(): Progress {
    return this.#progress
  }

  get share(): number | undefined {
    return this.#share
  }

  set share(share: number | undefined) {
    this.#share = share
    void this.#call('share', share).catch(() => {})
  }

  async start(): Promise<void> {
    // The process may have ended: then the generation goes on where it was saved.
    if (this.#peer === undefined)
      await this.#begin({ ...this.#deriving, anew: false, share: this.#share, paused: false })
    else await this.#call('start')
  }

  pause(): Promise<void> {
    return this.#call('pause')
  }

  caughtUp(): Promise<void> {
    return this.#call('caughtUp')
  }

  level(cut: Cut): Promise<{ isStill: boolean }> {
    return this.#call('level', plain(cut))
  }

  pass(ends: readonly number[]): Promise<void> {
    return this.#call('pass', ends)
  }

  save(isWhole: boolean): Promise<void> {
    return this.#call('save', isWhole)
  }

  snapshot(live: Live): Promise<void> {
    return this.#call('snapshot', live)
  }

  async sumUp({ samples, each }: SummaryOptions): Promise<DiffSummary> {
    let thrown: { readonly error: unknown } | undefined
    // Of what it throws only a copy comes back from the other process.
    this.#each = async (line) => {
      try {
        await each?.(line)
      } catch (error) {
        thrown = { error }
        throw error
      }
    }
    try {
      return await this.#call('sumUp', { samples, lines: each !== undefined })
    } catch (error) {
      throw thrown ? thrown.error : error
    } finally {
      this.#each = undefined
    }
  }

  stopSumUp(): void {
    void this.#call('stopSumUp').catch(() => {})
  }

  correctAhead(live: Live, changed: WrittenKeys | undefined): Promise<number> {
    return this.#call('correctAhead', live, changed)
  }

  correct(
    live: Live,
    changed: WrittenKeys | undefined,
    promotion: PromotionToCome,
  ): Promise<CorrectionFiles> {
    return this.#call('correct', live, changed, promotion)
  }

  async release(): Promise<void> {
    // The snapshots of a process end with it.
    if (this.#peer) await this.#call('release')
  }

  end(why: HenceError): void {
    this.#over ??= why
    this.#peer?.abandon(why)
  }

  async close(why: HenceError): Promise<void> {
    this.#over ??= why
    const peer = this.#peer
    const child = this.#child
    child?.ref()
    child?.channel?.ref()
    // What does not come back from a derivation saves nothing any more.
    const timer = setTimeout(() => child?.kill('SIGKILL'), closeMsMax)
    await peer?.call('close').catch(() => {})
    peer?.lose(why)
    if (child?.connected) child.disconnect()
    await this.#ended
    clearTimeout(timer)
  }

  async #begin(deriving: Deriving): Promise<void> {
    const child = fork(file, [], {
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      // Threads that collect garbage and compile for it would keep those of live work waiting for a processor.
      execArgv: ['--single-threaded', ...process.execArgv.filter((each) => each.startsWith('--max-'))],
    })
    const ended = Promise.withResolvers<void>()
    let silentTicks = 0
    this.#child = child
    this.#ended = ended.promise
    const ours: EngineCalls = {
      cut: async (than) => plain(await this.#engine.cut(than)),
      progress: (progress) => {
        // What was on its way when the process ended comes after its end.
        if (this.#peer === peer) this.#tell(progress)
      },
      lines: async (lines) => {
        for (const line of lines) await this.#each?.(line)
      },
    }
    const peer = new Peer<DerivingCalls>(
      {
        // That it is gone is told by its end.
        send: (message) => child.connected && child.send(message as object, () => {}),
        receive: (listener) =>
          child.on('message', (message) => {
            silentTicks = 0
            listener(message)
          }),
      },
      ours,
    )
    this.#peer = peer
    const ticking = setInterval(() => {
      // Ticks, and not time: a machine that sleeps does not count.
      if (++silentTicks < silentTicksMax) return
      this.#gone(
        peer,
        'it did not answer for a minute, so it was ended; perhaps a derivation does not return',
      )
      child.kill('SIGKILL')
    }, tickMs).unref()
    const end = (why: string) => {
      clearInterval(ticking)
      ended.resolve()
      this.#gone(peer, why)
    }
    child.on('error', (error) => {
      // One that was never there does not end.
      if (child.pid === undefined) end(error.message)
    })
    child.on('exit', (code, signal) => {
      end(signal === null ? `it ended with code ${code}` : `it was ended by ${signal}`)
    })
    child.unref()
    try {
      await this.#call('open', deriving)
    } catch (error) {
      // Its end is not the reason, but what comes of it.
      if (this.#peer === peer) this.#peer = this.#child = undefined
      child.ref()
      if (child.connected) child.disconnect()
      await this.#ended
      this.#fail(reprocessFailure(error, `Generation ${this.generation} could not be opened`))
      throw error
    }
  }

  async #call<Name extends keyof DerivingCalls>(
    name: Name,
    ...values: Parameters<DerivingCalls[Name]>
  ): Promise<Awaited<ReturnType<DerivingCalls[Name]>>> {
    const peer = this.#peer
    if (this.#over) throw this.#over
    if (peer === undefined) throw this.#error()
    // As long as something is waited for, this process does not end by itself.
    this.#child?.channel?.ref()
    try {
      return await peer.call(name, ...values)
    } finally {
      this.#hold()
    }
  }

  /** Lets this process end by itself when nothing is derived and nobody waits. */
  #hold(): void {
    const channel = this.#child?.channel
    if (this.#progress.state === 'deriving' || this.#peer?.waitingCount) channel?.ref()
    else channel?.unref()
  }

  #tell(progress: Progress): void {
    const before = this.#progress
    this.#progress = progress
    this.#hold()
    if (progress.state !== before.state) this.#engine.changed()
  }

  #gone(peer: Peer<DerivingCalls>, why: string): void {
    if (this.#peer !== peer) return
    this.#peer = undefined
    this.#child = undefined
    const error = new HenceError(
      'reprocess-failed',
      'operator',
      `The process that derives generation ${this.generation} is gone: ${why}. What it has saved stays, and requests go on; \`hence reprocess resume\` goes on from there.`,
    )
    peer.lose(this.#over ?? error)
    this.#fail(error)
  }

  #fail({ code, message }: HenceError): void {
    if (this.#over) return
    const { perSecond: _, ...progress } = this.#progress
    this.#tell({ ...progress, state: 'failed', error: { code, message } })
  }

  #error(): HenceError {
    const { state, error } = this.#progress
    if (state === 'paused') return isPaused()
    return new HenceError(error?.code ?? 'reprocess-failed', 'operator', error?.message ?? 'It is gone.')
  }
}

/** So long it may take to save and to end, in milliseconds, when the engine closes. */
const closeMsMax = 10_000
/** It says something every second; after so many ticks of so many milliseconds without a word it is stuck. */
const tickMs = 5_000
const silentTicksMax = 12

/** Of events that wait, only what is noted of them goes to another process. */
function plain({ positions, frontier, waiting }: Cut): Cut {
  return {
    positions,
    frontier,
    waiting: waiting.map((events) =>
      events.map(({ id, causePartition, causeOffset }) => ({ id, causePartition, causeOffset })),
    ),
  }
}

import { createHash } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import type { App } from './app/index.ts'
import type { Codes } from './codes.ts'
import { baseOf } from './derivation/control-history.ts'
import { appendControl } from './derivation/controls.ts'
import { type CorrectedRequest, type CorrectionCounts, correctionsOf } from './derivation/corrections.ts'
import { comparison } from './derivation/diff.ts'
import { type DiffSummary, type SummaryOptions, Summing } from './derivation/diff-summary.ts'
import { type Cut, Following, reprocessFailure } from './derivation/following.ts'
import { Generation, type GenerationHost, savedCheckpoint } from './derivation/generation.ts'
import { operatorRequests } from './derivation/operator.ts'
import { Pace } from './derivation/pace.ts'
import { partitionOf } from './derivation/processor.ts'
import { replay } from './derivation/replay.ts'
import type { Place } from './derivation/traces.ts'
import { checkPartitionKey } from './derivation/transaction.ts'
import type { SubmitOptions } from './engine.ts'
import { HenceError } from './failure.ts'
import { identityOf } from './identity.ts'
import type { Log } from './log/log.ts'
import {
  type CorrectionRecord,
  decodeRecord,
  encodeCorrection,
  type RecordedCorrection,
  type RequestRecord,
} from './log/record.ts'
import { recordsAt } from './log/records-at.ts'
import type { CodeOf, ControlFact, Diff, Promotion, Reprocessing, ReprocessStatus } from './reprocessing.ts'
import type { StoreView } from './state/store.ts'
import { correctionsName, type Storage } from './storage.ts'

/** What the generations need of the engine around them. */
export interface GenerationsHost {
  readonly checkpointRows: number
  /** Resolves when the live generation has applied another record. */
  next(): Promise<void>
  isBusy(): boolean
  /** The least log time that a record to come may have. */
  frontier(): number
  /** Lets nothing in and finishes what is under way, then acts. */
  still<T>(act: () => Promise<T>): Promise<T>
  /** Ends the tries of effects that are under way. */
  stopDelivery(): Promise<void>
  /** Begins to deliver what the live generation asks for. */
  startDelivery(): void
  /** Another generation is live, and this is its app. */
  switched(app: App): void
  /** Brings a correction to the log. */
  write(partition: number, record: CorrectionRecord, bytes: Buffer): void
  /** Resolves when all that was written is applied. */
  idle(): Promise<void>
  /** Forgets in a generation what is older than is kept, so much of each kind at most. */
  prune(generation: Generation, limit: number): void
  halt(error: unknown): void
  /** Why nothing more is done; undefined while it is. */
  closed(): HenceError | undefined
}

/** What is kept of the generations beside their state; derived, as they are. */
interface Note {
  readonly live: number
  readonly other?: NotedOther
}

interface NotedOther {
  readonly generation: number
  readonly version: string
  readonly wasLive: boolean
  readonly paused: boolean
  readonly share?: number
  readonly diff?: string
}

const noteName = 'state/generations.json'

/** Reads which generations there were, as far as it was noted. */
export async function notedGenerations(kept: Storage['kept']): Promise<Note> {
  const text = await kept(noteName)
  try {
    const note = text === undefined ? undefined : JSON.parse(text)
    if (isNote(note)) return note
  } catch {
    // See below.
  }
  // It holds nothing that the log and the states do not; a derivation that was not finished begins again.
  return { live: 0 }
}

function isNote(note: unknown): note is Note {
  const { live, other } = (note ?? {}) as Partial<Note>
  return (
    Number.isSafeInteger(live) &&
    (other === undefined || (Number.isSafeInteger(other.generation) && typeof other.version === 'string'))
  )
}

/** How much of the time between live work a diff takes, if nobody has said how much deriving may. */
const diffShare = 0.5

/** The generation that is live, and the one beside it; see `Reprocessing`. */
export class Generations implements Reprocessing {
  readonly #log: Log
  readonly #storage: Storage
  readonly #codes: Codes
  readonly #generationHost: GenerationHost
  readonly #host: GenerationsHost
  #live: Generation
  #other: Following | undefined
  /** One that could not be opened, and why: the live one goes on without it. */
  #unopened: { readonly other: NotedOther; readonly error: HenceError } | undefined
  /** The hash of the last diff of the other one. */
  #diff: string | undefined
  /** Those of a promotion that is under way. */
  #corrections: readonly RecordedCorrection[] = []
  #noting: Promise<void> = Promise.resolve()
  /** One change at a time. */
  #changing: Promise<unknown> = Promise.resolve()

  constructor(
    given: {
      readonly log: Log
      readonly storage: Storage
      readonly codes: Codes
      readonly generationHost: GenerationHost
      readonly live: Generation
    },
    host: GenerationsHost,
  ) {
    this.#log = given.log
    this.#storage = given.storage
    this.#codes = given.codes
    this.#generationHost = given.generationHost
    this.#live = given.live
    this.#host = host
  }

  get live(): Generation {
    return this.#live
  }

  /** Takes up the other generation where it was when the last process ended. */
  async restore(note: Note): Promise<void> {
    const live = this.#live.number
    let { other } = note
    if (note.live !== live && (other === undefined || other.generation === live)) {
      // The process ended between the record of a promotion and its note.
      const version =
        baseOf(this.#history, note.live) ?? (await savedCheckpoint(this.#generationHost, note.live))?.version
      other =
        version === undefined ? undefined : { generation: note.live, version, wasLive: true, paused: false }
    }
    if (other !== undefined && other.generation !== live) {
      await this.#openOther(other).catch((error) => {
        const what = `Generation ${other.generation} could not be opened`
        this.#unopened = { other, error: reprocessFailure(error, what) }
      })
    }
    await this.#note()
  }

  async #openOther(other: NotedOther): Promise<void> {
    const { generation: number, version, wasLive, paused, share } = other
    const base = baseOf(this.#history, number) ?? version
    const generation = await Generation.open(this.#generationHost, number, () => this.#codes.programOf(base))
    this.#unopened = undefined
    this.#diff = other.diff
    this.#other = new Following(generation, this.#followingHost(), { wasLive, share, paused })
    if (!paused) this.#other.start()
  }

  /** To be called when the engine is closed already: then no change begins any more. */
  async close(why: HenceError): Promise<void> {
    // A promotion may wait for what would take hours.
    this.#other?.end(why)
    await this.#changing.catch(() => {})
    const other = this.#other
    if (other !== undefined) {
      await other.stop()
      await other.generation.checkpoint().catch(() => {})
      await other.close(why)
    }
    await this.#noting.catch(() => {})
  }

  history(): readonly ControlFact[] {
    // A diff changes nothing, though it may have left a mark.
    return this.#history.filter((fact) => fact.type === 'promotion' || fact.before !== fact.version)
  }

  get #history(): readonly ControlFact[] {
    return this.#live.processor.history
  }

  start(
    code: CodeOf,
    { share, again = false }: { readonly share?: number; readonly again?: boolean } = {},
  ): Promise<ReprocessStatus> {
    if (share !== undefined && !(share > 0 && share <= 1)) {
      throw new HenceError(
        'option-invalid',
        'change',
        `\`share\` must be over 0 and at most 1, not ${share}.`,
      )
    }
    return this.#change(async () => {
      const version = await this.#codes.add(code)
      const noted = this.#noted()
      if (noted !== undefined && (noted.version !== version || noted.wasLive)) throw exists(noted)
      // Perhaps it was this code that was missing.
      if (this.#unopened !== undefined) await this.#openOther(this.#unopened.other)
      if (this.#other !== undefined) {
        this.#other.share = share
        this.#other.start()
      } else {
        if (version === this.#live.program.version && !again) throw sameCode(version)
        const used = [this.#live.number, ...this.#history.map(({ generation }) => generation)]
        const number = Math.max(...used) + 1
        const program = () => this.#codes.programOf(version)
        const generation = await Generation.open(this.#generationHost, number, program, true)
        this.#diff = undefined
        this.#other = new Following(generation, this.#followingHost(), {
          wasLive: false,
          share,
          paused: false,
        })
        this.#other.start()
      }
      await this.#note()
      return this.#status()
    })
  }

  status(): ReprocessStatus | undefined {
    if (this.#unopened === undefined) return this.#other?.status(this.#diff)
    const { other, error } = this.#unopened
    const { generation, version, wasLive, share } = other
    return {
      generation,
      version,
      state: 'failed',
      wasLive,
      records: 0,
      of: this.#live.processor.positions.reduce((sum, position) => sum + position, 0),
      failures: 0,
      share: share ?? diffShare,
      error: { code: error.code, message: error.message },
    }
  }

  pause(): Promise<ReprocessStatus> {
    return this.#change(async () => {
      await this.#needed().pause()
      await this.#note()
      return this.#status()
    })
  }

  resume(): Promise<ReprocessStatus> {
    return this.#change(async () => {
      if (this.#unopened !== undefined) await this.#openOther({ ...this.#unopened.other, paused: false })
      this.#needed().start()
      await this.#note()
      return this.#status()
    })
  }

  async caughtUp(signal?: AbortSignal): Promise<ReprocessStatus> {
    await this.#needed().caughtUp(signal)
    return this.#status()
  }

  async diff(
    options: {
      readonly samples?: number
      readonly each?: (line: string) => void
      readonly signal?: AbortSignal
    } = {},
  ): Promise<Diff> {
    const { signal, ...how } = options
    for (;;) {
      await this.#needed().caughtUp(signal)
      // Meanwhile it may have been paused, or be another one.
      const made = await this.#change(async () =>
        this.#needed().hasCaughtUp ? this.#compare(how, signal) : undefined,
      )
      if (made !== undefined) return made
    }
  }

  async #compare(how: SummaryOptions, signal: AbortSignal | undefined): Promise<Diff> {
    const other = this.#needed()
    const [before, after] = [this.#live, other.generation]
    let sides: ComparedSides | undefined
    try {
      await this.#saveAhead(other)
      const positions = await this.#host.still(async () => {
        await this.#level(other)
        sides = new ComparedSides(before, after)
        return [...before.processor.positions]
      })
      const summary = await this.#sumUp(sides!, other.share ?? diffShare, how, signal)
      this.#diff = summary.sha256
      return {
        ...summary,
        before: { generation: before.number, version: before.program.version },
        after: { generation: after.number, version: after.program.version },
        positions,
      }
    } finally {
      sides?.close()
      // Not before: live work is to share the time with one of them only.
      other.start()
      await this.#note()
    }
  }

  /** Compares what both were at one moment, a little at a time: requests go on. */
  async #sumUp(
    { before, after }: ComparedSides,
    share: number,
    how: SummaryOptions,
    signal: AbortSignal | undefined,
  ): Promise<DiffSummary> {
    const summing = new Summing(how)
    const pace = new Pace(this.#host, share)
    pace.begin()
    for (const difference of comparison(before, after)) {
      if (difference !== undefined) summing.add(difference)
      const rest = pace.rest()
      if (rest === undefined) continue
      await rest
      signal?.throwIfAborted()
      const closed = this.#host.closed()
      if (closed) throw closed
    }
    return summing.end()
  }

  async promote(
    { diff, note }: { readonly diff: string; readonly note?: string },
    { requestId, principal = '' }: SubmitOptions,
  ): Promise<Promotion> {
    const identity = identityOf(requestId, principal)
    return this.#change(async () => {
      const before = this.#history.find(
        (fact) => fact.type === 'promotion' && fact.requestId === requestId && fact.principal === principal,
      )
      if (before !== undefined) return this.#promotedBefore(before as Promoted, diff)
      const other = this.#needed()
      if (diff !== this.#diff) throw unknownDiff(diff, this.#diff)
      await other.caughtUp()
      await this.#saveAhead(other)
      await this.#host.stopDelivery()
      try {
        return await this.#host.still(() => this.#promote(other, { diff, note, identity }))
      } finally {
        this.#host.startDelivery()
        this.#other?.start()
      }
    })
  }

  discard(): Promise<void> {
    return this.#change(async () => {
      const { generation } = this.#noted() ?? raise(none())
      await this.#other?.close(none())
      this.#other = undefined
      this.#unopened = undefined
      this.#diff = undefined
      await this.#note()
      await this.#storage.dropStore(generation)
    })
  }

  /** Writes what a process that ended during a promotion had no time to write. Nothing else may be written meanwhile. */
  async finishCorrections(): Promise<void> {
    const last = this.#history.findLast((fact) => fact.type === 'promotion') as Promoted | undefined
    if (last === undefined || last.corrections === 0) return
    const { processor } = this.#live
    if (processor.correctedCount === last.corrections) return
    await this.#write(await this.#keptCorrections(last))
  }

  /** Corrections that the log of a partition may lack: what was written of them has perhaps not arrived. */
  waitingFor(partition: number): CorrectionRecord[] {
    const done = this.#live.processor.corrected(partition)
    const generation = this.#live.number
    return this.#corrections
      .filter(({ key, n }) => n > done && partitionOf(key, this.#log.partitions) === partition)
      .map((correction) => ({ kind: 'correction', generation, correction }))
  }

  async #promote(
    other: Following,
    approval: { readonly diff: string; readonly note: string | undefined; readonly identity: string },
  ): Promise<Promotion> {
    await this.#level(other)
    const [before, after] = [this.#live, other.generation]
    const number = this.#history.length
    const app = await this.#codes.hostAppOf(after.program.version)
    const apps = [app, await this.#codes.hostAppOf(before.program.version)]
    const sides = new ComparedSides(before, after)
    const corrections = await correctionsOf(
      sides.before,
      sides.after,
      { number, identity: approval.identity, partition: 0, offset: before.processor.position(0) },
      {
        requests: (places) => this.#requests(apps, places),
        pause: everyTurn(),
      },
    ).finally(() => sides.close())
    const { list, counts, effectsNew } = corrections
    const text = [JSON.stringify({ counts, effectsNew }), ...list.map((each) => JSON.stringify(each))].join(
      '\n',
    )
    if (list.length > 0) await this.#storage.keep(correctionsName(number), text)
    const { note } = approval
    const version = after.program.version
    const record = {
      generation: after.number,
      control: {
        type: 'promotion' as const,
        number,
        base: baseOf(this.#history, after.number) ?? version,
        version,
        before: before.number,
        identity: approval.identity,
        diff: approval.diff,
        ...(note !== undefined && { note }),
        corrections: list.length,
        correctionsHash: createHash('sha256').update(text).digest('hex'),
      },
    }
    await this.#record(record)
    // The other one passes it when it is live no more: until then its position is that of the rows that are read.
    await this.#pass(after)
    // From here to the next turn of the event loop nobody reads.
    this.#live = after
    this.#other = new Following(before, this.#followingHost(), {
      wasLive: true,
      share: other.share,
      paused: false,
    })
    this.#diff = undefined
    this.#host.switched(app)
    await this.#write(list)
    await this.#note()
    return {
      generation: after.number,
      version,
      before: before.number,
      corrections: counts,
      effectsNew,
      replayed: false,
    }
  }

  /** Brings those to the log that it lacks, each partition's in their order. */
  async #write(list: readonly RecordedCorrection[]): Promise<void> {
    this.#corrections = list
    const generation = this.#live.number
    for (const correction of list) {
      const partition = partitionOf(correction.key, this.#log.partitions)
      if (correction.n <= this.#live.processor.corrected(partition)) continue
      const record: CorrectionRecord = { kind: 'correction', generation, correction }
      this.#host.write(partition, record, encodeCorrection(record))
    }
    await this.#host.idle()
    this.#corrections = []
  }

  async #promotedBefore(fact: Promoted, diff: string): Promise<Promotion> {
    if (fact.diff !== diff) throw reused(fact)
    const { generation, version, before } = fact
    const head: Head = fact.corrections > 0 ? await this.#keptHead(fact) : nothing
    return {
      generation,
      version,
      before,
      corrections: head.counts,
      effectsNew: head.effectsNew,
      replayed: true,
    }
  }

  async #keptHead(fact: Promoted): Promise<Head> {
    const text = await this.#storage.kept(correctionsName(fact.number))
    return text === undefined ? nothing : JSON.parse(text.slice(0, text.indexOf('\n')))
  }

  async #keptCorrections(fact: Promoted): Promise<RecordedCorrection[]> {
    const text = await this.#storage.kept(correctionsName(fact.number))
    if (text === undefined || createHash('sha256').update(text).digest('hex') !== fact.correctionsHash) {
      throw new HenceError(
        'corrections-lost',
        'operator',
        `The corrections of promotion ${fact.number} are not whole in the log, and \`${correctionsName(fact.number)}\` is not in the data directory as it was. ` +
          'Put that file back from a copy.',
      )
    }
    return text
      .split('\n')
      .slice(1)
      .map((line) => JSON.parse(line))
  }

  /** Saves both while requests go on, so that little is left to save while they wait. */
  async #saveAhead(other: Following): Promise<void> {
    for (const each of [this.#live, other.generation]) await each.checkpoint()
  }

  /** Writes a control record into all partitions. */
  async #record(record: Parameters<typeof appendControl>[1]): Promise<void> {
    try {
      await appendControl(this.#log, record, [...this.#live.processor.positions.keys()])
    } catch (error) {
      if (!(error instanceof HenceError) || error.advice !== 'retry') this.#host.halt(error)
      throw error
    }
  }

  /** Has the generation that is live behind a control record pass it: nothing goes on otherwise. */
  async #pass(generation: Generation): Promise<void> {
    try {
      await replay(this.#log, generation, { pause: () => undefined })
    } catch (error) {
      this.#host.halt(error)
      throw error
    }
  }

  /** Brings the other generation to where the live one stands still, with what both keep, and saves both. */
  async #level(other: Following): Promise<void> {
    await other.catchUp()
    if (!other.generation.processor.isStill) {
      // Records of the same millisecond may still come, and its last messages belong behind them. To have them applied here
      // all the same, this place must be one in the log: a record that the code in force stays in force.
      const { number: generation, program } = this.#live
      const { version } = program
      const number = this.#history.length
      await this.#record({ generation, control: { type: 'version', number, version, before: version } })
      await this.#pass(this.#live)
      await replay(this.#log, other.generation, { pause: () => undefined })
    }
    for (const each of [this.#live, other.generation]) {
      this.#host.prune(each, Number.POSITIVE_INFINITY)
      await each.checkpoint()
    }
  }

  /** Requests of the log, and their partition keys by the first app that gives one. */
  async #requests(
    apps: readonly App[],
    places: readonly Place[],
  ): Promise<ReadonlyMap<string, CorrectedRequest>> {
    const found = new Map<string, CorrectedRequest>()
    for (const [partition, here] of Map.groupBy(places, ({ partition }) => partition)) {
      const offsets = here.map(({ offset }) => offset).sort((a, b) => a - b)
      for await (const { offset, bytes } of recordsAt(this.#log, partition, offsets))
        found.set(`${partition}:${offset}`, requestOf(apps, decodeRecord(bytes) as RequestRecord))
    }
    return found
  }

  #followingHost() {
    return {
      log: this.#log,
      cut: () => this.#cut(),
      next: () => this.#host.next(),
      isBusy: () => this.#host.isBusy(),
      checkpointRows: this.#host.checkpointRows,
      prune: (generation: Generation) => this.#host.prune(generation, this.#host.checkpointRows),
      changed: () => void this.#note().catch(() => {}),
    }
  }

  #cut(): Cut {
    const { processor } = this.#live
    const { positions } = processor
    return {
      positions: [...positions],
      frontier: this.#host.frontier(),
      waiting: positions.map((_, target) => processor.waitingFor(target)),
    }
  }

  #needed(): Following {
    if (this.#other !== undefined) return this.#other
    throw this.#unopened?.error ?? none()
  }

  /** What is to be kept of the other one. */
  #noted(): NotedOther | undefined {
    const other = this.#other
    if (other === undefined) return this.#unopened?.other
    return {
      generation: other.generation.number,
      version: other.generation.program.version,
      wasLive: other.wasLive,
      paused: other.paused,
      ...(other.share !== undefined && { share: other.share }),
      ...(this.#diff !== undefined && { diff: this.#diff }),
    }
  }

  #status(): ReprocessStatus {
    return this.#needed().status(this.#diff)
  }

  #change<T>(act: () => Promise<T>): Promise<T> {
    const result = this.#changing
      .catch(() => {})
      .then(() => {
        // Its directory may be another process's by now.
        const closed = this.#host.closed()
        if (closed) throw closed
        return act()
      })
    this.#changing = result.catch(() => {})
    return result
  }

  #note(): Promise<void> {
    this.#noting = this.#noting
      .catch(() => {})
      .then(async () => {
        await setImmediate()
        const other = this.#noted()
        const note: Note = { live: this.#live.number, ...(other && { other }) }
        await this.#storage.keep(noteName, JSON.stringify(note))
      })
    return this.#noting
  }
}

type Promoted = Extract<ControlFact, { type: 'promotion' }>

interface Head {
  readonly counts: CorrectionCounts
  readonly effectsNew: number
}

const nothing: Head = { counts: { outcome: 0, effect: 0, row: 0 }, effectsNew: 0 }

function requestOf(apps: readonly App[], record: RequestRecord): CorrectedRequest {
  const { type } = record
  const input = JSON.parse(record.input)
  let key = operatorRequests.get(type)?.key(input as never)
  for (const app of apps) key ??= keyBy(app, record)
  return { type, input, key }
}

/** The partition key of a request by an app; undefined when the app gives none, or throws. */
function keyBy({ requests }: App, { type, version, input, output }: RequestRecord): string | undefined {
  const definition = requests.get(type)
  if (definition === undefined) return undefined
  try {
    let value = JSON.parse(output ?? input)
    for (let from = version; from < definition.version; from++) value = definition.upcast[from]!(value)
    const key: unknown = definition.key(value)
    checkPartitionKey(key, `request "${type}"`)
    return key
  } catch {
    // Then that is why the outcome is another one, and no reason not to correct it.
    return undefined
  }
}

/** What two generations have saved, as it is now; to be closed. */
class ComparedSides {
  readonly before: Side
  readonly after: Side

  constructor(before: Generation, after: Generation) {
    this.before = sideOf(before)
    this.after = sideOf(after)
  }

  close(): void {
    this.before.store.close()
    this.after.store.close()
  }
}

interface Side {
  readonly app: App
  readonly store: StoreView
}

function sideOf({ program, store }: Generation): Side {
  return { app: program.app, store: store.view() }
}

/** Lets reads come in now and then while requests wait. */
function everyTurn(): () => Promise<void> | undefined {
  const pace = new Pace({ isBusy: () => false, next: () => Promise.resolve() }, 1)
  pace.begin()
  return () => pace.rest()
}

function none(): HenceError {
  return new HenceError(
    'reprocess-none',
    'change',
    'There is one generation of derived state only. Begin another one first (`hence reprocess run`).',
  )
}

function raise(error: HenceError): never {
  throw error
}

function exists({ generation, version, wasLive }: NotedOther): HenceError {
  const what = wasLive
    ? `Generation ${generation}, which was live before, is kept for the way back`
    : `Generation ${generation} is being derived by version ${version.slice(0, 12)} of the code`
  return new HenceError(
    'reprocess-exists',
    'change',
    `${what}, and there can be one beside the live one only. Give it up first (\`hence reprocess discard\`).`,
  )
}

function sameCode(version: string): HenceError {
  return new HenceError(
    'reprocess-same-code',
    'change',
    `Version ${version.slice(0, 12)} of the code is in force already. To derive everything again with it all the same, to see that nothing differs, say so (\`--again\`).`,
  )
}

function unknownDiff(diff: string, last: string | undefined): HenceError {
  return new HenceError(
    'diff-unknown',
    'change',
    `${JSON.stringify(diff)} is not the last diff of this generation, ${last === undefined ? 'of which none was made yet' : `which is ${last}`}. ` +
      'Look at the differences as they are now (`hence reprocess diff`), and approve those.',
  )
}

function reused({ requestId, number }: Promoted): HenceError {
  return new HenceError(
    'request-id-reused',
    'change',
    `The request id ${requestId} has approved another diff before, in promotion ${number}. Nothing was changed: use a new id for a new approval.`,
  )
}

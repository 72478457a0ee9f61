import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import type { App, KeyPart, Row } from '../app/index.ts'
import type { Clock } from '../clock.ts'
import type { Delivery, Handler } from '../effect/handlers.ts'
import type { Engine } from '../engine/engine.ts'
import { createEngine } from '../engine/open-engine.ts'
import { HenceError } from '../failure.ts'
import type { AppBundle } from '../sandbox/bundle.ts'
import { server } from '../server/server.ts'
import { encodeKey } from '../state/keys.ts'
import { HandClock } from './hand-clock.ts'
import { Draw } from './random.ts'
import { type SimulatedRequest, simulatedClients } from './simulated-clients.ts'
import { SimulatedMachine, type SimulatedProcess } from './simulated-machine.ts'
import { type RunningServer, simulatedNetwork } from './simulated-network.ts'
import { type SimulatedDelivery, simulatedReceivers } from './simulated-receivers.ts'
import { type Step, textOf } from './simulation-plan.ts'

/** Everything that the invariant of a simulation sees. */
export interface Observed {
  /** The rows of every table, by key in order. */
  readonly tables: ReadonlyMap<string, readonly Row[]>
  readonly requests: readonly SimulatedRequest[]
  readonly deliveries: readonly SimulatedDelivery[]
  /** Nothing is under way any more. */
  readonly isOver: boolean
}

export interface SimulationRun {
  /** SHA-256 of everything that happened, in order; in hexadecimal. */
  readonly hash: string
  readonly requests: number
  readonly processes: number
  /** Operations on the disk, the store and the network. */
  readonly operations: number
  readonly deliveries: number
  readonly retries: number
}

interface WorldOptions {
  readonly app: AppBundle
  readonly seed: number
  readonly clients: number
  readonly receivers: Readonly<Record<string, Handler | Delivery>>
  readonly invariant: (observed: Observed) => void
}

/** Alarms that the injected faults explain. */
const expectedAlarms: ReadonlySet<string> = new Set([
  ...['writes-held-up', 'clock-jumped', 'log-time-ahead', 'effect-dead', 'derivation-failed'],
  ...['log-damaged', 'log-write-failed', 'file-unusable', 'out-of-space', 'data-unusable'],
])

const turnsMax = 50_000
const quietTurns = 60
const hourMs = 3_600_000

/** Runs a plan: the whole pipeline in one process, from one seed. */
export async function simulated(plan: readonly Step[], options: WorldOptions): Promise<SimulationRun> {
  const world = new World(options)
  try {
    return await world.live(plan)
  } finally {
    world.leave()
  }
}

class World {
  readonly #options: WorldOptions
  readonly #draw: Draw
  /** The time as it is; the machine has a clock of its own. */
  readonly #clock = new HandClock()
  readonly #machineClock = new HandClock()
  readonly #machine: SimulatedMachine
  readonly #hash = createHash('sha256')
  readonly #clients
  readonly #tables = new Map<string, Map<string, Row>>()
  readonly #broken: unknown[] = []
  #process: SimulatedProcess | undefined
  #engine: Engine<App> | undefined
  #serving: RunningServer | undefined
  #startAt = 0
  #losesPower = false
  #downMs = 0
  readonly #network
  readonly #receivers
  /** Operations of the disk that fail from now on. */
  #failing = { operations: 0, isFull: false }
  #diskFailed = false
  #flipBack: (() => void) | undefined
  #processes = 0

  constructor(options: WorldOptions) {
    this.#options = options
    this.#draw = new Draw(options.seed)
    this.#machine = new SimulatedMachine({
      random: this.#draw.random,
      partitions: 1 + this.#draw.below(4),
      segmentBytes: this.#draw.one(4_000, 20_000, 100_000),
      fault: () => {
        if (this.#failing.operations === 0) return undefined
        this.#failing.operations--
        this.#diskFailed = true
        return this.#failing.isFull ? 'full' : 'fail'
      },
      operated: (what) => this.#note(what),
    })
    const broken = (error: unknown) => this.#broken.push(error)
    this.#network = simulatedNetwork(this.#draw, this.#clock, () => this.#serving)
    this.#receivers = simulatedReceivers(this.#draw, options.receivers, broken)
    const host = { network: this.#network, note: (what: string) => this.#note(what), broken }
    this.#clients = simulatedClients(options.clients, this.#draw, this.#clock, host)
  }

  async live(plan: readonly Step[]): Promise<SimulationRun> {
    for (const step of plan) {
      for (let turns = step.turns; turns > 0; turns--) await this.#turn()
      this.#note(textOf(step))
      await this.#do(step)
    }
    this.#network.share = this.#receivers.share = this.#failing.operations = 0
    await this.#until('every request is decided', () => this.#clients.requests.every(({ reply }) => reply))
    await this.#until('the clocks agree', () => this.#clock.now() === this.#machineClock.now())
    await this.#end()
    return {
      hash: this.#hash.digest('hex'),
      requests: this.#clients.requests.length,
      operations: this.#machine.operations,
      deliveries: this.#receivers.done.size,
      processes: this.#processes,
      retries: this.#clients.retries,
    }
  }

  leave(): void {
    this.#machine.end({ losePower: false })
    this.#clients.closeAll()
  }

  async #do(step: Step): Promise<void> {
    switch (step.do) {
      case 'send':
        return this.#clients.send(step.client, `${step.queue}`, step.sent)
      case 'send again':
        return this.#clients.sendAgain(step.nth)
      case 'die':
        this.#losesPower = step.losePower
        this.#downMs = step.downMs
        return this.#machine.dieAfter(step.operations)
      case 'fail disk':
        this.#failing = { operations: step.operations, isFull: step.isFull }
        return
      case 'flip a bit':
        return this.#flipBit()
      case 'replace client':
        await this.#settling(this.#clients.close(step.client))
        return this.#clients.open(step.client)
      case 'disturb network':
      case 'disturb receivers': {
        const disturbed = step.do === 'disturb network' ? this.#network : this.#receivers
        disturbed.share = step.share
        this.#clock.after(step.forMs, () => {
          disturbed.share = 0
        })
        return
      }
      case 'jump clock':
        this.#machineClock.jump(step.ms)
        this.#clock.after(step.forMs, () => {
          this.#machineClock.jump(-step.ms)
          this.#engine?.confirmClock()
        })
        return
      case 'pause': {
        const goOn = this.#machine.pause()
        this.#pass(step.ms)
        await this.#turn()
        goOn()
      }
    }
  }

  /** One turn of the event loop, in which a little time passes. */
  async #turn(): Promise<void> {
    this.#pass(1 + this.#draw.below(3))
    await new Promise(setImmediate)
    if (this.#broken.length > 0) throw this.#broken[0]
    if (this.#machine.isDead) {
      this.#note('died')
      this.#stopped(this.#losesPower, this.#downMs)
    }
    if (this.#process === undefined && this.#clock.now() >= this.#startAt) this.#start()
  }

  #pass(ms: number): void {
    this.#machineClock.pass(ms)
    this.#clock.pass(ms)
  }

  /** Waits for turns, and lets time pass while nothing happens. */
  async #until(what: string, isSo: () => boolean): Promise<void> {
    let before = -1
    for (let turns = 0, quiet = 0; !isSo(); turns++) {
      assert.ok(turns < turnsMax, `this never happened: ${what}`)
      await this.#turn()
      quiet = before === this.#machine.operations ? quiet + 1 : 0
      before = this.#machine.operations
      if (quiet < quietTurns) continue
      this.#pass(Math.max(0, Math.min(this.#clock.next, this.#machineClock.next, hourMs)))
      quiet = 0
    }
  }

  async #settling<T>(promise: Promise<T>): Promise<T> {
    await this.#untilSettled(promise)
    return promise
  }

  /** @param isOver ends the waiting: a call of a process that has died never settles */
  async #untilSettled(promise: Promise<unknown>, isOver = () => false): Promise<void> {
    let isSettled = false
    const settled = () => {
      isSettled = true
    }
    promise.then(settled, settled)
    await this.#until('a call returns', () => isSettled || isOver())
  }

  #stopped(losePower: boolean, downMs: number): void {
    this.#process = this.#engine = this.#serving = undefined
    this.#machine.end({ losePower })
    this.#startAt = this.#clock.now() + downMs
  }

  #start(): void {
    const process = this.#machine.start()
    this.#process = process
    this.#diskFailed = false
    this.#processes++
    this.#note('start')
    this.#open(process).catch((error) => {
      if (process.isGone) return
      this.#expectStruck(error)
      this.#note(`does not start: ${error.code}`)
      this.#mend()
    })
  }

  /** Whether a fault explains why the engine does not start, or has stopped. */
  get #isStruck(): boolean {
    return this.#diskFailed || this.#flipBack !== undefined
  }

  #expectStruck(error: unknown): void {
    if (!(error instanceof HenceError) || !this.#isStruck) this.#broken.push(error)
  }

  /** An operator mends the log, and starts again. */
  #mend(): void {
    this.#flipBack?.()
    this.#flipBack = undefined
    this.#stopped(false, 1_000)
  }

  async #open(process: SimulatedProcess): Promise<void> {
    const clock = this.#clockOf(process)
    const report = ({ level, code, message }: { level: string; code: string; message: string }) => {
      if (process.isGone) return
      this.#note(`${level}: ${code}`)
      if (code === 'engine-stopped' && this.#isStruck) this.#mend()
      else if (level === 'alarm' && !expectedAlarms.has(code))
        this.#broken.push(new Error(`${code}: ${message}`))
    }
    const engine: Engine<App> = await createEngine({
      app: this.#options.app,
      data: await process.storage(clock),
      checkpointRows: this.#draw.one(1, 20, 1000),
      // Real time does not count: a run must be the same on a slow machine.
      derivationMs: 86_400_000,
      handlers: this.#receivers.handlersOf(process) as never,
      clock,
      random: this.#draw.random,
      report,
    })
    // Events that were under way go on at once: read until nothing changes meanwhile.
    for (let at = ''; at !== engine.position(); ) {
      at = engine.position()
      for (const name of engine.app.tables.keys()) {
        const rows = await engine.scan(name)
        this.#tables.set(name, new Map(rows.map((row) => [encodeKey(row.key), row])))
      }
    }
    engine.subscribe((changes) => {
      if (process.isGone) return
      for (const { table, key, after } of changes) {
        const rows = this.#tables.get(table)!
        if (after === undefined) rows.delete(encodeKey(key as readonly KeyPart[]))
        else rows.set(encodeKey(key), { key, value: after } as Row)
      }
      this.#check(false)
    })
    this.#check(false)
    this.#engine = engine
    const authenticate = ({ headers }: Request) => {
      return { principal: headers.get('simulated-client')!, permissions: ['submit'] }
    }
    this.#serving = { process, server: server(engine, { authenticate, clock, report }) }
  }

  #clockOf(process: SimulatedProcess): Clock {
    const ring = (act: () => void) => () => {
      if (!process.isGone) act()
    }
    return {
      now: () => this.#machineClock.now(),
      elapsed: () => this.#clock.elapsed(),
      alarm: (time, act) => this.#machineClock.alarm(time, ring(act)),
      timer: (ms, act) => this.#clock.after(ms, ring(act)),
    }
  }

  async #flipBit(): Promise<void> {
    await this.#until('the engine runs', () => this.#engine !== undefined)
    const engine = this.#engine!
    const process = this.#process!
    this.#serving = undefined
    const closed = engine.close().catch((error) => this.#expectStruck(error))
    await this.#untilSettled(closed, () => process.isGone)
    if (process.isGone) return
    this.#stopped(false, 0)
    this.#flipBack?.()
    this.#flipBack = this.#machine.flipBit()
    await this.#until('the engine runs again', () => this.#engine !== undefined)
  }

  #check(isOver: boolean): void {
    const tables = new Map(
      [...this.#tables].map(([name, rows]) => {
        const sorted = [...rows].sort(([a], [b]) => (a < b ? -1 : 1))
        return [name, sorted.map(([, row]) => row)] as const
      }),
    )
    try {
      this.#options.invariant({
        tables,
        requests: this.#clients.requests,
        deliveries: [...this.#receivers.done.values()],
        isOver,
      })
    } catch (error) {
      this.#broken.push(error)
    }
  }

  async #end(): Promise<void> {
    let engine = await this.#running()
    const pending = async () => (await engine.effects.list({ state: 'pending', limit: 1 })).length
    const isDelivered = [...engine.app.effects.keys()].every((name) => name in this.#options.receivers)
    for (let turns = 0; ; turns++) {
      await this.#settling(engine.idle())
      if (!isDelivered || (await this.#settling(pending())) === 0) break
      assert.ok(turns < 1_000, 'effects are pending for ever')
      this.#pass(60_000)
    }
    this.#check(true)
    if (this.#broken.length > 0) throw this.#broken[0]
    for (const { id, type, input } of this.#receivers.done.values()) {
      const effect = await this.#settling(engine.effects.get(id))
      assert.deepEqual(effect?.input, input, `the effect "${type}" ${id} was done, and nothing asks for it`)
    }
    for (const { requestId, client, type, input, reply } of this.#clients.requests) {
      const again = engine.submit(type as never, input as never, { requestId, principal: client })
      const { replayed, token: _, ...outcome } = await this.#settling(again)
      assert.ok(replayed, `request ${requestId} was decided, and is derived again`)
      assert.deepEqual(outcome, reply, `request ${requestId} has another outcome`)
    }
    const digest = await this.#settling(engine.digest())
    this.#note(digest)
    await this.#settling(engine.close())
    this.#stopped(false, 0)
    this.#machine.forgetState()
    engine = await this.#running()
    await this.#settling(engine.idle())
    assert.equal(await this.#settling(engine.digest()), digest, 'the log derives other tables')
    await this.#settling(engine.close())
  }

  async #running(): Promise<Engine<App>> {
    await this.#until('the engine runs', () => this.#engine !== undefined)
    return this.#engine!
  }

  #note(what: string): void {
    this.#hash.update(`${this.#clock.now()} ${what}\n`)
  }
}

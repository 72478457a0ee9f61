import { setImmediate as turn } from 'node:timers/promises'
import type { Clock } from '../clock.ts'
import { HenceError } from '../failure.ts'
import type { Carrier } from '../log/carrier.ts'
import type { Batch } from '../log/log.ts'
import { HostileCarrier, SlowLine } from './hostile-carrier.ts'

/** The log of one process over a carrier that others write to as well. */
export interface DuelLog {
  append(partition: number, records: readonly Uint8Array[]): Promise<{ readonly offset: number }>
  /** Reads from an offset on. In a log that has taken the partition, this says what became of every append. */
  read(partition: number, from: number): AsyncIterable<Batch>
  /** Reads what is new in the carrier. */
  catchUp(): Promise<void>
  /** Takes the log, so that this process writes it, and none that did before. */
  claim(): Promise<void>
  close(): Promise<void>
}

interface DuelOptions {
  /** Numbers in [0, 1): the only source of randomness. */
  readonly random: () => number
  /** Opens the log of a process, which only follows until it claims. One that died may find its files. */
  open(process: number, carrier: Carrier, clock: Clock): Promise<DuelLog>
  /** A process has died; its files stay as they are. */
  died?(process: number): void
  /** Opens the carrier behind the line of a process. */
  connect(): Promise<Carrier>
  readonly partitions: number
}

const processes = 3
const appends = 12

/** A rule of the log that a duel saw broken. */
export class DuelBroken extends Error {}

export interface DuelFigures {
  acknowledged: number
  /** Appends of which a log reported that they are not there and never will be. */
  absent: number
  /** Appends after which a process did not know whether they are there. */
  unsure: number
  claims: number
  /** Processes that found that another had taken the log. */
  overtaken: number
  deaths: number
}

/**
 * Several processes write one log, with wrong clocks, over lines that lose, delay and repeat. They are
 * stopped, woken, killed and started again, and take the log from one another. Afterwards: every reader has
 * found the same records; an acknowledged one is at its offset; one that was reported as absent is nowhere;
 * none is there twice; time never goes back.
 * @throws DuelBroken
 */
export async function duel(options: DuelOptions): Promise<DuelFigures> {
  const { random, partitions } = options
  const carriers: Carrier[] = []
  const connect = async () => {
    const carrier = await options.connect()
    carriers.push(carrier)
    return carrier
  }
  const carrier = await connect()
  await carrier.facts({ logId: 'd'.repeat(32), partitions, segmentBytes: 64 * 1024 })
  const world: DuelField = {
    ...{ options, connect, partitions, random },
    line: new SlowLine(),
    figures: { acknowledged: 0, absent: 0, unsure: 0, claims: 0, overtaken: 0, deaths: 0 },
    acknowledged: new Map(),
    absent: new Set(),
    readings: [],
  }
  await Promise.all(Array.from({ length: processes }, (_, process) => new Process(world, process).live()))
  while (world.line.length > 0) await world.line.arrive(random)
  const reader = await options.open(processes, carrier, { now: () => 0 })
  await reader.catchUp()
  const truth = await Promise.all(
    Array.from({ length: partitions }, (_, partition) => contents(reader, partition)),
  )
  await reader.close()
  await Promise.all(carriers.map((each) => each.close()))
  check(world, truth)
  return world.figures
}

interface DuelField {
  readonly options: DuelOptions
  readonly connect: () => Promise<Carrier>
  readonly partitions: number
  readonly random: () => number
  readonly line: SlowLine
  readonly figures: DuelFigures
  readonly acknowledged: Map<string, { readonly partition: number; readonly offset: number }>
  readonly absent: Set<string>
  /** All that a process has read of a partition, from its beginning. */
  readonly readings: { readonly partition: number; readonly ids: readonly string[] }[]
}

class Process {
  readonly #world: DuelField
  readonly #number: number
  #carrier!: HostileCarrier
  #log: DuelLog | undefined
  #isOwner = false
  /** By partition, the appends of which this life does not know what became. */
  #unsure = new Map<string, number>()
  #sent = 0
  #skew = 0

  constructor(world: DuelField, number: number) {
    this.#world = world
    this.#number = number
  }

  async live(): Promise<void> {
    const { random, figures } = this.#world
    while (this.#sent < appends) {
      this.#skew = (random() - 0.5) * 2e11
      try {
        if (this.#log === undefined) await this.#start()
        const drawn = random()
        if (drawn < 0.05) this.#die()
        else if (drawn < 0.12) await this.#pause()
        else if (drawn < 0.25) await this.#look()
        else if (!this.#isOwner) {
          if (drawn < 0.6) await this.#claim()
          else await this.#log!.catchUp()
        } else await this.#append(this.#anyPartition())
      } catch (error) {
        if (!(error instanceof HenceError)) throw error
        if (error.code === 'log-taken') await this.#retire()
        else if (error.advice !== 'retry') throw error
      }
      await turn()
    }
    if (this.#log === undefined) return
    await this.#look().catch(() => {})
    await this.#log.close().catch(() => {})
    figures.unsure += this.#unsure.size
  }

  async #start(): Promise<void> {
    const { options, connect, line, random } = this.#world
    // Some lines are good for a while.
    this.#carrier = new HostileCarrier(await connect(), line, random, random() < 0.3 ? 0 : random() * 0.5)
    const clock = { now: () => 1_800_000_000_000 + this.#skew, alarm: () => () => {} }
    this.#log = await options.open(this.#number, this.#carrier, clock)
  }

  #die(): void {
    this.#world.figures.deaths++
    this.#carrier.kill()
    this.#world.options.died?.(this.#number)
    this.#forget()
  }

  #forget(): void {
    this.#log = undefined
    this.#isOwner = false
    this.#unsure = new Map()
  }

  /** The process is stopped for a while, and others go on; something may be on its way. */
  async #pause(): Promise<void> {
    const append =
      this.#isOwner && this.#world.random() < 0.5 ? this.#append(this.#anyPartition()) : undefined
    append?.catch(() => {})
    this.#carrier.stop()
    for (let turns = this.#world.random() * 60; turns > 0; turns--) await turn()
    this.#carrier.wake()
    await append
  }

  async #claim(): Promise<void> {
    await this.#log!.claim()
    this.#isOwner = true
    this.#world.figures.claims++
  }

  async #append(partition: number): Promise<void> {
    const { random, acknowledged, figures } = this.#world
    const ids = Array.from({ length: 1 + Math.floor(random() * 2) }, () => `${this.#number}.${this.#sent++}`)
    for (const id of ids) this.#unsure.set(id, partition)
    const { offset } = await this.#log!.append(
      partition,
      ids.map((id) => Buffer.from(id)),
    )
    for (const [index, id] of ids.entries()) {
      acknowledged.set(id, { partition, offset: offset + index })
      this.#unsure.delete(id)
      figures.acknowledged++
    }
  }

  #anyPartition(): number {
    return Math.floor(this.#world.random() * this.#world.partitions)
  }

  /** Reads everything, and reports what is not there if it writes the log. */
  async #look(): Promise<void> {
    const { partitions, readings, absent, figures } = this.#world
    for (let partition = 0; partition < partitions; partition++) {
      const unsure = [...this.#unsure].filter(([, of]) => of === partition).map(([id]) => id)
      const wasOwner = this.#isOwner
      const ids = await contents(this.#log!, partition)
      readings.push({ partition, ids })
      if (!wasOwner) continue
      for (const id of unsure) {
        this.#unsure.delete(id)
        if (ids.includes(id)) continue
        absent.add(id)
        figures.absent++
      }
    }
  }

  /** Another process has taken a partition: there nothing more may be acknowledged. This one starts again. */
  async #retire(): Promise<void> {
    const { partitions, figures } = this.#world
    figures.overtaken++
    let refused = 0
    for (let partition = 0; partition < partitions; partition++) {
      await this.#append(partition).catch(() => refused++)
    }
    holds(refused > 0, `process ${this.#number} was overtaken, and all of its appends are acknowledged`)
    await this.#log!.close().catch(() => {})
    this.#carrier.kill()
    this.#forget()
  }
}

async function contents(log: DuelLog, partition: number): Promise<string[]> {
  const ids: string[] = []
  let before = Number.NEGATIVE_INFINITY
  for await (const { offset, time, records } of log.read(partition, 0)) {
    holds(offset === ids.length, `partition ${partition} goes on at offset ${offset} after ${ids.length}`)
    holds(time >= before, `the time of partition ${partition} goes back at offset ${offset}`)
    before = time
    ids.push(...records.map(String))
  }
  return ids
}

function check({ acknowledged, absent, readings }: DuelField, truth: readonly (readonly string[])[]): void {
  for (const [id, { partition, offset }] of acknowledged) {
    const found = truth[partition]![offset]
    holds(found === id, `${id} was acknowledged at ${partition}:${offset}, and ${found} is there`)
  }
  const all = truth.flat()
  holds(new Set(all).size === all.length, 'a record is there twice')
  for (const id of absent) holds(!all.includes(id), `${id} was reported as absent, and is there`)
  for (const { partition, ids } of readings) {
    const same = ids.every((id, offset) => truth[partition]![offset] === id)
    holds(same, `a process has read other records of partition ${partition} than others`)
  }
}

function holds(condition: boolean, message: string): void {
  if (!condition) throw new DuelBroken(message)
}

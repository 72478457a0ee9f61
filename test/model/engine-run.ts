import {
  type App,
  type Call,
  createEngine,
  type Engine,
  HenceError,
  type RedriveInput,
  type Reply,
} from 'hence'
import { memoryStorage } from 'hence/testing'
import { requestIdOf } from '../../src/identity.ts'
import { decodeRecord } from '../../src/log/record.ts'
import { ruleOut } from '../../src/offline/rule.ts'
import { appsOf } from '../apps.ts'
import { HandClock } from '../hand-clock.ts'
import type * as made from './app.ts'
import type { AppPlan, TaskInput } from './plan.ts'
import type { Root } from './state.ts'

const { modelled } = appsOf<typeof made>(import.meta.resolve('./app.ts'))

interface Gate {
  readonly id: string
  readonly text: string
  readonly open: (end: 'answer' | 'close') => void
}

/** One process of an engine: it dies at an append, which is in the log or not. */
interface Life {
  /** How many it still begins. */
  appends: number
  /** Whether the last of them is in the log. */
  readonly isWritten: boolean
  isOver: boolean
  /** Where the last of them is in the log: of nothing else is it certain that it was not derived. */
  last?: Promise<{ readonly partition: number; readonly offset: number }>
  readonly end: Promise<void>
  readonly kill: () => void
}

const never = new Promise<never>(() => {})

/** Storage or a log of a process; once that is dead, nothing that it does has an effect or an end. */
function mortal<T extends object>(of: T, life: Life): T {
  return new Proxy(of, {
    get(target, name) {
      const value = Reflect.get(target, name, target)
      if (typeof value !== 'function') return value
      return (...args: unknown[]) => {
        if (life.isOver) return never
        if (name !== 'append' || --life.appends > 0) return value.apply(target, args)
        life.kill()
        if (!life.isWritten) return never
        life.last = Promise.resolve(value.apply(target, args)).then(({ offset }) => ({
          partition: args[0] as number,
          offset,
        }))
        return never
      }
    },
  })
}

/** An engine in memory, on a clock that is moved by hand, whose effects wait until they are answered. */
export class EngineRun {
  readonly clock = new HandClock()
  readonly alarms: string[] = []
  readonly #partitions: number
  readonly #data
  #gates: Gate[] = []
  /** By id: the content that its handler was called with, and whether it was answered. */
  readonly #calls = new Map<string, { text: string; isAnswered: boolean; redrives: number }>()
  /** Calls that should not have been. */
  readonly #faults: string[] = []
  readonly #redriven = new Set<string>()
  /** The requests that an operator has ruled out. */
  readonly ruledOut = new Set<string>()
  #life!: Life
  engine!: Engine<App>

  constructor(partitions: number) {
    this.#partitions = partitions
    this.#data = memoryStorage({ partitions, clock: this.clock })
  }

  async open(plan: AppPlan, onCodeChange: 'refuse' | 'continue' | 'reprocess' = 'refuse', data = this.#data) {
    await this.#open(plan, onCodeChange, data, this.#begin())
  }

  /** As `open`, by a process that may die, and then by another one. */
  async openTwice(plan: AppPlan, onCodeChange: 'refuse' | 'continue' | 'reprocess', crash: number) {
    const life = this.#begin(crash)
    await Promise.race([this.#open(plan, onCodeChange, this.#data, life), life.end])
    if (life.isOver) await this.open(plan, onCodeChange)
    else life.appends = Number.POSITIVE_INFINITY
  }

  /** @param crash dies at half this append, counted from 1; an odd one is in the log */
  #begin(crash = Number.POSITIVE_INFINITY): Life {
    let end = () => {}
    const life: Life = {
      appends: Math.ceil(crash / 2),
      isWritten: crash % 2 === 1,
      isOver: false,
      end: new Promise((resolve) => {
        end = resolve
      }),
      kill: () => {
        life.isOver = true
        // Results that are not in the log are lost with the process.
        for (const call of this.#calls.values()) call.isAnswered = false
        this.#gates = []
        end()
      },
    }
    return life
  }

  /**
   * Does something in which the process dies, at the latest at its end; then again in another process.
   * @param isPoison whether an operator rules a request out in between, if nothing of it may have been sent
   */
  async twice(
    plan: AppPlan,
    crash: number,
    act: () => Promise<unknown>,
    isPoison: (request: string) => boolean,
  ): Promise<void> {
    const life = this.#life
    const { appends, isWritten } = this.#begin(crash)
    Object.assign(life, { appends, isWritten })
    await Promise.race([act().then(() => this.rest()), life.end])
    if (!life.isOver) life.kill()
    await this.#ruleOut(plan, isPoison, life)
    await this.open(plan)
    await act()
  }

  async #ruleOut(plan: AppPlan, isPoison: (request: string) => boolean, { last }: Life): Promise<void> {
    if (!last) return
    const { log } = this.#data
    const { hash } = await modelled(plan)
    const { partition, offset: from } = await last
    const known = new Set<string>()
    for await (const { offset, records } of log.read(partition, 0))
      for (const [i, bytes] of records.entries()) {
        const record = decodeRecord(bytes)
        const id = record.kind === 'request' ? requestIdOf(record.identity) : undefined
        if (id === undefined || known.has(id)) continue
        known.add(id)
        if (offset < from || !isPoison(id)) continue
        await ruleOut(log, hash, { record: `${partition}:${offset + i}` })
        this.ruledOut.add(id)
      }
  }

  async #open(
    plan: AppPlan,
    onCodeChange: 'refuse' | 'continue' | 'reprocess',
    data: ReturnType<typeof memoryStorage>,
    life: Life,
  ) {
    this.#life = life
    this.engine = await createEngine<App>({
      app: (await modelled(plan)) as never,
      data: mortal({ ...data, log: mortal(data.log, life) }, life),
      onCodeChange,
      ...(plan.derivationMs !== undefined && { derivationMs: plan.derivationMs }),
      clock: this.clock,
      report: ({ level, code, message }) => level === 'alarm' && this.alarms.push(`${code}: ${message}`),
      handlers: {
        task: {
          deliver: (call: Call<TaskInput>) => (life.isOver ? never : this.#deliver(call)),
          concurrency: 10_000,
          delayMs: 1,
          timeoutMs: 600_000,
        },
      } as never,
    })
  }

  #deliver({ id, input, signal }: Call<TaskInput>): Promise<unknown> {
    const known = this.#calls.get(id)
    if (known && known.text !== input.text) this.#faults.push(`${input.text} has the id of ${known.text}`)
    if (known?.isAnswered && known.redrives === 0)
      this.#faults.push(`effect ${input.text} was called again after its result`)
    const call = { text: input.text, isAnswered: false, redrives: known?.redrives ?? 0 }
    this.#calls.set(id, call)
    if (input.text.includes('*')) {
      call.isAnswered = true
      return Promise.resolve({ got: 'ok' })
    }
    return new Promise((resolve, reject) => {
      const gate: Gate = {
        id,
        text: input.text,
        open: (end) => {
          this.#gates = this.#gates.filter((each) => each !== gate)
          if (end === 'close') return reject(new Error('closing'))
          call.isAnswered = true
          const { done } = endOf(input.text, this.#redriven.has(id))
          if (done) resolve({ got: 'ok' })
          else reject(new HenceError('effect-refused', 'change', 'refused'))
        },
      }
      signal.addEventListener('abort', () => gate.open('close'))
      this.#gates.push(gate)
    })
  }

  /** An operator sends an effect again. */
  async redrive(input: RedriveInput, options: Root): Promise<Reply> {
    // It may be called before this has its reply.
    const count = (by: number) => {
      const call = this.#calls.get(input.effect)
      if (call) call.redrives += by
    }
    count(1)
    const reply = await this.engine.effects.redrive(input, options)
    if (reply.status === 'accepted') this.#redriven.add(input.effect)
    else count(-1)
    return reply
  }

  /** Waits until nothing is under way, no timer is due, and every pending effect waits for its answer. */
  async rest(): Promise<void> {
    for (let i = 0; ; i++) {
      if (this.#faults.length > 0) throw new Error(this.#faults.join('\n'))
      if (i === 5_000) throw new Error(`the engine does not come to rest: ${await this.#unrest()}`)
      await this.engine.idle()
      const { nextTimerAt } = this.engine.stats()
      if (nextTimerAt === undefined || nextTimerAt > this.clock.now()) {
        const pending = await this.engine.effects.list({ limit: 1_000_000 })
        const called = new Set(this.#gates.map(({ id }) => id))
        if (pending.every(({ id }) => called.has(id)) && called.size === pending.length) {
          await this.engine.idle()
          return
        }
      }
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  async #unrest(): Promise<string> {
    const { nextTimerAt } = this.engine.stats()
    const pending = await this.engine.effects.list({ limit: 1_000_000 })
    const called = new Set(this.#gates.map(({ id }) => id))
    const uncalled = pending.filter(({ id }) => !called.has(id))
    const ended = this.#gates.filter(({ id }) => !pending.some((each) => each.id === id))
    return JSON.stringify({
      now: this.clock.now(),
      nextTimerAt,
      uncalled,
      ended,
      alarms: this.alarms.slice(-3),
    })
  }

  /** Moves the clock, and stops where timers are due. */
  async pass(ms: number): Promise<void> {
    const target = this.clock.now() + ms
    while (this.clock.now() < target) {
      const next = this.engine.stats().nextTimerAt
      this.clock.pass(Math.min(target, next ?? target) - this.clock.now())
      await this.rest()
    }
  }

  /** Answers the effects that wait, except those that nobody answers. */
  async answer(): Promise<void> {
    for (const gate of this.#gates.filter(({ text }) => !text.includes('?'))) gate.open('answer')
    await this.rest()
  }

  async close(): Promise<void> {
    const closing = this.engine.close()
    for (const gate of [...this.#gates]) gate.open('close')
    await closing
  }

  /** Derives everything again from the log alone. */
  async rebuild(plan: AppPlan): Promise<void> {
    const { log, kept } = this.#data
    await this.open(plan, 'refuse', {
      ...memoryStorage({ partitions: this.#partitions, clock: this.clock }),
      log,
      kept,
    } as never)
  }
}

/** How an effect with this text ends: one that an operator has sent again, mostly well. */
export function endOf(
  text: string,
  isRedriven: boolean,
): { done: true; got: string } | { done: false; error: string } {
  return text.includes(isRedriven ? '!!' : '!')
    ? { done: false, error: 'refused' }
    : { done: true, got: 'ok' }
}

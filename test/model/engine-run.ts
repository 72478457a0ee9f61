import assert from 'node:assert/strict'
import { type App, type Call, createEngine, type Engine, HenceError } from 'hence'
import { memoryStorage } from 'hence/testing'
import { appsOf } from '../apps.ts'
import { HandClock } from '../hand-clock.ts'
import type * as made from './app.ts'
import type { AppPlan, TaskInput } from './plan.ts'

const { modelled } = appsOf<typeof made>(import.meta.resolve('./app.ts'))

interface Gate {
  readonly id: string
  readonly text: string
  readonly open: (end: 'answer' | 'close') => void
}

/** An engine in memory, on a clock that is moved by hand, whose effects wait until they are answered. */
export class EngineRun {
  readonly clock = new HandClock()
  readonly alarms: string[] = []
  readonly #partitions: number
  readonly #data
  #gates: Gate[] = []
  /** By id: the content that its handler was called with, and whether it was answered. */
  readonly #calls = new Map<string, { text: string; isAnswered: boolean }>()
  engine!: Engine<App>

  constructor(partitions: number) {
    this.#partitions = partitions
    this.#data = memoryStorage({ partitions, clock: this.clock })
  }

  async open(plan: AppPlan, onCodeChange: 'refuse' | 'continue' | 'reprocess' = 'refuse', data = this.#data) {
    this.engine = await createEngine<App>({
      app: (await modelled(plan)) as never,
      data,
      onCodeChange,
      clock: this.clock,
      report: ({ level, code, message }) => level === 'alarm' && this.alarms.push(`${code}: ${message}`),
      handlers: {
        task: {
          deliver: (call: Call<TaskInput>) => this.#deliver(call),
          concurrency: 10_000,
          delayMs: 1,
          timeoutMs: 600_000,
        },
      } as never,
    })
  }

  #deliver({ id, input, signal }: Call<TaskInput>): Promise<unknown> {
    const known = this.#calls.get(id)
    if (known) {
      assert.equal(known.text, input.text, 'one id stands for two contents')
      assert.ok(!known.isAnswered, `effect ${input.text} was called again after its result`)
    }
    const call = { text: input.text, isAnswered: false }
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
          const { done } = endOf(input.text)
          if (done) resolve({ got: 'ok' })
          else reject(new HenceError('effect-refused', 'change', 'refused'))
        },
      }
      signal.addEventListener('abort', () => gate.open('close'))
      this.#gates.push(gate)
    })
  }

  /** Waits until nothing is under way, no timer is due, and every pending effect waits for its answer. */
  async rest(): Promise<void> {
    for (let i = 0; ; i++) {
      assert.ok(i < 5_000, 'the engine does not come to rest')
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

/** How an effect with this text ends. */
export function endOf(text: string): { done: true; got: string } | { done: false; error: string } {
  return text.includes('!') ? { done: false, error: 'refused' } : { done: true, got: 'ok' }
}

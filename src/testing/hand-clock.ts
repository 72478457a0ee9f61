import type { Clock } from '../clock.ts'

/** A clock that a test moves by hand. Alarms that are due ring then. */
export class HandClock implements Clock {
  #now = Date.UTC(2026, 0, 1)
  #elapsed = 0
  readonly #alarms = new Set<{ readonly time: number; readonly ring: () => void }>()

  now(): number {
    return this.#now
  }

  elapsed(): number {
    return this.#elapsed
  }

  alarm(time: number, ring: () => void): () => void {
    const alarm = { time, ring }
    this.#alarms.add(alarm)
    return () => this.#alarms.delete(alarm)
  }

  after(ms: number, act: () => void): () => void {
    return this.alarm(this.#now + ms, act)
  }

  /** Milliseconds until the next alarm. */
  get next(): number {
    return Math.min(...[...this.#alarms].map(({ time }) => time)) - this.#now
  }

  pass(ms: number): void {
    this.#elapsed += ms
    this.jump(ms)
  }

  /** Sets the clock, also backward, though no time passes. */
  jump(ms: number): void {
    this.#now += ms
    for (const alarm of [...this.#alarms]) {
      if (alarm.time > this.#now && ms >= 0) continue
      this.#alarms.delete(alarm)
      alarm.ring()
    }
  }
}

import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { type Clock, elapsed, setTimer } from '../clock.ts'
import { type HenceError, retryError } from '../failure.ts'
import type { Carrier } from '../log/carrier.ts'

/** How often the active process writes its note, in milliseconds. */
const beatMs = 500
/** The active process has gone when its note has not changed for so long. */
export const silentMs = 2_000
const name = 'active'

interface Note {
  /** Random, for each process that becomes active. */
  readonly process: string
  readonly host: string
  readonly pid: number
  /** Where others reach it. */
  readonly address?: string
  /** That of the log when the process took it; an earlier version of Hence left it out. */
  readonly epoch?: number
  /** Counts the beats; undefined once it has released the log. */
  readonly beat?: number | undefined
  /** No record with an earlier log time comes any more; left out where nobody says so. */
  readonly frontier?: number | undefined
}

interface Holder {
  readonly who: string
  readonly address: string | undefined
  readonly isAlive: boolean
  /** No record with an earlier log time comes after what the log has now. */
  readonly frontier: number | undefined
}

/**
 * A note beside a log in a carrier that says which process is active. It spares the others a take-over, and
 * no more: which process writes is decided in the log itself, whatever the note says. Others judge its age by
 * their own clock, by when they saw it change.
 */
export class ActiveNote {
  readonly #carrier: Carrier
  readonly #clock: Clock
  #own: Note
  /** Returns the least log time that a record to come may have. */
  frontier: (() => number) | undefined
  #seen: Note | undefined
  #seenAt: number | undefined
  /** Whether the process that is seen has given a sign of life since it was first seen. */
  #isAlive = false
  #beat = 0
  #isActive = false
  #cancel = () => {}
  #writing: Promise<void> = Promise.resolve()
  /** Why this process is not active any more. */
  #taken: HenceError | undefined
  /** Nobody finds this process silent before `silentMs` have passed since then. */
  #confirmedAt = 0

  constructor(carrier: Carrier, clock: Clock, address: string | undefined) {
    this.#carrier = carrier
    this.#clock = clock
    const process_ = randomBytes(8).toString('hex')
    this.#own = { process: process_, host: hostname(), pid: process.pid, ...(address && { address }) }
  }

  /**
   * Looks who is active.
   * @returns the process that is, its address, and whether it has given a sign of life since it was first
   *   seen; undefined if there is none, or it is silent
   * @throws HenceError `carrier-unreachable` (retry), `carrier-unusable` (operator)
   */
  async holder(): Promise<Holder | undefined> {
    const note = await this.#read().catch((error) => {
      // Nothing is known of the time in which nobody could write or read it.
      this.#seenAt = undefined
      throw error
    })
    const now = elapsed(this.#clock)
    const isSame = this.#seenAt !== undefined && note?.process === this.#seen?.process
    const hasBeaten = isSame && note?.beat !== this.#seen?.beat
    if (!isSame || hasBeaten) this.#seenAt = now
    this.#isAlive = hasBeaten || (isSame && this.#isAlive)
    this.#seen = note
    if (note?.beat === undefined || now - this.#seenAt! > silentMs) return undefined
    const { address, frontier } = note
    return { who: `process ${note.pid} on ${note.host}`, address, isAlive: this.#isAlive, frontier }
  }

  /**
   * How long ago this process last knew that it is active, in milliseconds; 0 while no other can have taken
   * over because of its silence.
   */
  get doubtMs(): number {
    const ms = elapsed(this.#clock) - this.#confirmedAt
    return this.#isActive && (ms > silentMs || this.#taken !== undefined) ? Math.max(1, ms) : 0
  }

  /** Says from here on that this process is active: it has taken the log with this epoch. */
  async begin(epoch: number): Promise<void> {
    const at = elapsed(this.#clock)
    this.#own = { ...this.#own, epoch }
    await this.#write(this.#beat)
    this.#confirmedAt = at
    this.#isActive = true
    this.#later()
  }

  /** @throws HenceError `log-taken` (retry) if another process has become active */
  check(): void {
    if (this.#taken) throw this.#taken
  }

  /** Lets another process take over at once, unless one has already. */
  async release(): Promise<void> {
    this.#cancel()
    if (!this.#isActive) return
    this.#isActive = false
    await this.#writing
    if (this.#taken === undefined) await this.#write(undefined)
  }

  #later(): void {
    this.#cancel = setTimer(this.#clock, beatMs, () => {
      this.#writing = this.#pulse().then(() => {
        if (this.#isActive && this.#taken === undefined) this.#later()
      })
    })
  }

  async #pulse(): Promise<void> {
    try {
      const at = elapsed(this.#clock)
      const note = await this.#read()
      // The note of a process that had the log before may come late.
      const isLater = note?.process !== this.#own.process && (note?.epoch ?? Infinity) >= this.#own.epoch!
      if (note !== undefined && isLater) this.#taken = taken(note)
      else {
        await this.#write(++this.#beat)
        this.#confirmedAt = at
      }
    } catch {
      // Appending meets the same failure, and reports it.
    }
  }

  async #read(): Promise<Note | undefined> {
    const text = await this.#carrier.get(name)
    return text && (JSON.parse(text.toString()) as Note)
  }

  #write(beat: number | undefined): Promise<void> {
    const note: Note = { ...this.#own, beat, frontier: this.frontier?.() }
    return this.#carrier.put(name, Buffer.from(JSON.stringify(note)))
  }
}

const taken = ({ pid, host }: Note) =>
  retryError(
    'log-taken',
    `Process ${pid} on ${host} has taken the log, since this process was silent. This one writes and ` +
      'acknowledges nothing more. Send the same request to the other.',
  )

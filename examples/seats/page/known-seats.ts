import type { Change, Client } from 'hence/client'
import type { Seats } from '../seats.ts'

export interface Seat {
  readonly row: number
  readonly letter: string
  readonly state: 'free' | 'held' | 'booked'
  /** When the hold ends, in milliseconds since 1970. */
  readonly until?: number | undefined
}

/** "12A", as it is printed on the wall above the seat. */
export type SeatName = string

interface Kept {
  readonly at: number
  readonly seats: readonly Seat[]
  readonly own: readonly SeatName[]
}

/**
 * What this page knows of the seats of a flight: the tables as they were read last, and every change that was told
 * since. It is kept in the browser, so that a page without a network shows the map as it was.
 */
export class KnownSeats {
  readonly seats = new Map<SeatName, Seat>()
  /** Those that the passenger holds or has booked. */
  readonly own = new Set<SeatName>()
  /** When the server last told something; undefined before it ever did. */
  at: number | undefined

  readonly #hence: Client<Seats>
  readonly #flight: string
  readonly #keptAs: string
  readonly #changed: () => void
  #stop = () => {}
  #reading = Promise.resolve()
  /** Changes that are told during a read: the rows that it brings may be older or newer. */
  #meanwhile: Told[] | undefined

  constructor(hence: Client<Seats>, options: { flight: string; passenger: string; changed: () => void }) {
    this.#hence = hence
    this.#flight = options.flight
    this.#keptAs = `seats of ${options.flight} for ${options.passenger}`
    this.#changed = options.changed
    this.#recall()
  }

  /** Hears of changes from now on; also called to leave a connection that may be dead, and begin a new one. */
  follow(): void {
    this.#stop()
    this.#stop = this.#hence.subscribe(
      {
        tables: ['seats', 'passengers'],
        prefix: [this.#flight],
        anew: () => void this.read().catch(() => {}),
      },
      (changes) => {
        this.#meanwhile?.push(changes)
        this.#apply(changes)
        this.#keep()
      },
    )
  }

  rest(): void {
    this.#stop()
  }

  /** Reads both tables. They show at least what this client was told is accepted. */
  read(): Promise<void> {
    const read = this.#reading.then(() => this.#read())
    this.#reading = read.catch(() => {})
    return read
  }

  async #read(): Promise<void> {
    const meanwhile: Told[] = []
    this.#meanwhile = meanwhile
    try {
      const query = { prefix: [this.#flight] }
      const [seats, own] = await Promise.all([
        this.#hence.scan('seats', query),
        this.#hence.scan('passengers', query),
      ])
      this.seats.clear()
      for (const { key, value } of seats) this.#put(key, value)
      this.own.clear()
      for (const { key } of own) this.own.add(nameOf(key))
      for (const changes of meanwhile) this.#apply(changes)
      this.#keep()
    } finally {
      this.#meanwhile = undefined
    }
  }

  #apply(changes: Told): void {
    for (const change of changes) {
      if (change.table === 'passengers') {
        if (change.after) this.own.add(nameOf(change.key))
        else this.own.delete(nameOf(change.key))
      } else if (change.after) this.#put(change.key, change.after)
    }
  }

  #put([, row, letter]: SeatKey, value: Pick<Seat, 'state' | 'until'>): void {
    this.seats.set(`${row}${letter}`, { row, letter, ...value })
  }

  #keep(): void {
    this.at = Date.now()
    const kept: Kept = { at: this.at, seats: [...this.seats.values()], own: [...this.own] }
    try {
      localStorage.setItem(this.#keptAs, JSON.stringify(kept))
    } catch {
      // Without room for it, a page without a network shows no map.
    }
    this.#changed()
  }

  #recall(): void {
    const text = localStorage.getItem(this.#keptAs)
    if (text === null) return
    const kept: Kept = JSON.parse(text)
    this.at = kept.at
    for (const seat of kept.seats) this.seats.set(`${seat.row}${seat.letter}`, seat)
    for (const name of kept.own) this.own.add(name)
  }
}

type Told = readonly Change<Seats, 'seats' | 'passengers'>[]
type SeatKey = readonly [flight: string, row: number, letter: string]

function nameOf([, row, letter]: SeatKey): SeatName {
  return `${row}${letter}`
}

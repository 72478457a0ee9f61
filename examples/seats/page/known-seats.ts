import type { Change, Client } from 'hence/client'
import type { Seats } from '../seats.ts'

export interface Seat {
  readonly row: number
  readonly letter: string
  readonly state: 'free' | 'held' | 'booked'
  /** When the hold ends, in milliseconds since 1970. */
  readonly until?: number | undefined
}

/** "12A", as printed above the seat. */
export type SeatName = string

interface Kept {
  readonly at: number
  readonly seats: readonly Seat[]
  readonly own: readonly SeatName[]
}

/**
 * The seats of a flight that this page knows: the tables as last read, and every change delivered since. They
 * are stored in the browser, so that a page without a network shows the last map.
 */
export class KnownSeats {
  readonly seats = new Map<SeatName, Seat>()
  /** The seats that the passenger holds or has booked. */
  readonly own = new Set<SeatName>()
  /** When the server last sent something; undefined before it ever did. */
  at: number | undefined

  readonly #hence: Client<Seats>
  readonly #flight: string
  readonly #keptAs: string
  readonly #changed: () => void
  #stop = () => {}
  #reading = Promise.resolve()
  /** Changes delivered during a read, whose rows may be older or newer. */
  #meanwhile: Told[] | undefined

  constructor(hence: Client<Seats>, options: { flight: string; passenger: string; changed: () => void }) {
    this.#hence = hence
    this.#flight = options.flight
    this.#keptAs = `seats of ${options.flight} for ${options.passenger}`
    this.#changed = options.changed
    this.#recall()
  }

  /** Subscribes to changes; also called to replace a connection that may be dead. */
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

  /** Reads both tables. They include every request that this client knows was accepted. */
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
      // If the browser has no room for it, a page without a network shows no map.
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

import type { Client, ClientEvents, Pending } from 'hence/client'
import type { Seats } from '../seats.ts'
import type { SeatName } from './known-seats.ts'

export type Wish = Extract<Pending<Seats>, { readonly type: WishType }>
export type WishType = 'hold-seat' | 'book-seat' | 'release-seat'
type StoredOutcome = Extract<ClientEvents<Seats>['decided'], { readonly type: WishType }>
export type WishReply = StoredOutcome['reply']
/**
 * A request of the passenger, and its progress. Until it is stored it is lost with the page, so promise
 * nothing.
 */
export interface Asked {
  readonly type: WishType
  readonly isStored: boolean
}

/** How a request ended: decided, refused by the server, or not stored. */
export type WishEnd = { readonly reply: WishReply } | { readonly error: Error }

/** The passenger's requests, from the click until the map shows their outcome. */
export class Wishes {
  readonly #hence: Client<Seats>
  readonly #flight: string
  readonly #changed: () => void
  readonly #ended: (type: WishType, seat: SeatName, end: WishEnd) => void
  /** Clicked, and not stored yet. A second click finds it here. */
  readonly #clicked = new Set<string>()
  /** Stored and undecided, when they were last looked up. */
  #waiting: readonly Wish[] = []
  /** Decided, but not read yet. A seat must not look free in between. */
  readonly #settling = new Map<string, Wish>()

  /**
   * @param read reads the map's rows after a decision
   * @param ended called once the map shows it
   */
  constructor(
    hence: Client<Seats>,
    options: {
      flight: string
      read: () => Promise<void>
      changed: () => void
      ended: (type: WishType, seat: SeatName, end: WishEnd) => void
    },
  ) {
    const { flight, read, changed, ended } = options
    this.#hence = hence
    this.#flight = flight
    this.#changed = changed
    this.#ended = ended
    hence.on('pending', async ({ type, input }) => {
      await this.#lookUp()
      if (isWish(type)) this.#clicked.delete(clickOf(type, seatOf({ input })))
      changed()
    })
    hence.on('retrying', changed)
    hence.on('refused', async (refused) => {
      await this.#lookUp()
      if (isWish(refused.type)) ended(refused.type, seatOf(refused), { error: refused.error })
      changed()
    })
    hence.on('decided', async (decided) => {
      if (!isWish(decided.type)) return
      const { reply, ...wish } = decided as StoredOutcome
      this.#settling.set(wish.requestId, wish as Wish)
      await this.#lookUp()
      // If it cannot be read now, the next message from the server triggers another read.
      await read().catch(() => {})
      this.#settling.delete(wish.requestId)
      ended(wish.type, seatOf(wish), { reply })
      changed()
    })
  }

  /** The requests about a seat, in order. */
  of(seat: SeatName): readonly Asked[] {
    const stored = this.#all().filter((wish) => seatOf(wish) === seat)
    const clicked = [...this.#clicked].filter((click) => click.endsWith(` ${seat}`))
    return [
      ...stored.map(({ type }) => ({ type, isStored: true })),
      ...clicked.map((click) => ({ type: click.split(' ')[0] as WishType, isStored: false })),
    ]
  }

  /** The seats with open requests. */
  seats(): ReadonlySet<SeatName> {
    return new Set([...this.#all().map(seatOf), ...[...this.#clicked].map((click) => click.split(' ')[1]!)])
  }

  /**
   * Submits a request. The client stores it before it sends it. From then on this page, another tab, or the
   * next page sends it until it is decided. Events report its outcome. The promise of `submit` ends with the
   * page, so it is used only for errors of storing.
   */
  ask(type: WishType, seat: SeatName): void {
    if (this.of(seat).some((asked) => asked.type === type)) return
    this.#clicked.add(clickOf(type, seat))
    this.#changed()
    const [, row, letter] = /^(\d+)(\w)$/.exec(seat)!
    const input = { flight: this.#flight, row: Number(row), letter: letter! }
    // One queue for each seat: hold, booking and release keep their order, and no seat waits for another.
    this.#hence.submit(type, input, { queue: seat }).catch((error: Error) => {
      if (!this.#clicked.delete(clickOf(type, seat))) return
      this.#ended(type, seat, { error })
      this.#changed()
    })
  }

  #all(): readonly Wish[] {
    const waiting = this.#waiting.filter(({ requestId }) => !this.#settling.has(requestId))
    return [...this.#settling.values(), ...waiting]
  }

  async #lookUp(): Promise<void> {
    this.#waiting = (await this.#hence.pending()).filter((wish): wish is Wish => isWish(wish.type))
  }
}

function isWish(type: string): type is WishType {
  return type === 'hold-seat' || type === 'book-seat' || type === 'release-seat'
}

function seatOf({ input }: { readonly input: object }): SeatName {
  const { row, letter } = input as Wish['input']
  return `${row}${letter}`
}

function clickOf(type: WishType, seat: SeatName): string {
  return `${type} ${seat}`
}

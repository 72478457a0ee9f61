/** The page. It shows the state of the client, and is redrawn whenever that changes. */
import { client, indexedDb } from 'hence/client'
import { flight as flightSold } from '../flight.ts'
import type { Seats } from '../seats.ts'
import { type CardFace, Cards } from './cards.ts'
import { Connection } from './connection.ts'
import { KnownSeats, type SeatName } from './known-seats.ts'
import { Notes } from './notes.ts'
import { askForSession, passenger } from './passenger.ts'
import { SeatMap } from './seat-map.ts'
import { Wishes, type WishType } from './wishes.ts'
import { connectionTexts, ending, having, type Look, time, waiting } from './words.ts'

const { flight } = flightSold
const part = (id: string) => document.getElementById(id)!

// First, so that the page also opens after a reload without a network.
void navigator.serviceWorker?.register('/service-worker.js')

const name = await passenger()
part('passenger').textContent = `Passenger ${name.slice(0, 4).toUpperCase()}`

const connection = new Connection(draw)
const hence = client<Seats>({
  url: '/hence',
  // One outbox for each passenger, so that no request is sent as another passenger's.
  outbox: indexedDb({ name: `seats of ${name}` }),
  // If the browser's passenger changes while this page is open, the site refuses its requests.
  headers: { passenger: name },
  fetch: connection.fetch,
  // People are waiting, so retry soon; after an outage the page recovers within seconds.
  timeoutMs: 10_000,
  backoff: { firstMs: 250, mostMs: 5_000 },
})
const known = new KnownSeats(hence, { flight, passenger: name, changed: draw })
const notes = new Notes(part('notes'))
const wishes = new Wishes(hence, {
  flight,
  read: () => known.read(),
  changed: draw,
  ended(type, seat, end) {
    const note = ending(type, seat, end, known.own.has(seat))
    // A refused hold refuses the booking behind it too; the first note gives the reason.
    const follows = type === 'book-seat' && note.tone === 'sorry' && notes.toneOf(seat) === 'sorry'
    if (!follows) notes.show(seat, note)
  },
})
// The next session may be another passenger, with another outbox.
part('login')
  .querySelector('button')!
  .addEventListener('click', async () => {
    if (await askForSession()) location.reload()
  })

const map = new SeatMap(part('map'), (seat) => {
  if (lookOf(seat) === 'free') ask('hold-seat', seat)
  cards.focus(seat)
})
const cards = new Cards(part('cards'), ask)

function ask(type: WishType, seat: SeatName): void {
  wishes.ask(type, seat)
}

function lookOf(seat: SeatName): Look {
  const state = known.seats.get(seat)?.state ?? 'free'
  if (wishes.of(seat).length > 0) return 'waiting'
  if (known.own.has(seat)) return state === 'booked' ? 'booked' : 'held'
  return state === 'free' ? 'free' : 'taken'
}

function faceOf(seat: SeatName): CardFace {
  const wished = wishes.of(seat)
  const last = wished.at(-1)
  if (last !== undefined) {
    // The next request waits in the queue, so a booking can be requested before the hold is granted.
    const can: WishType[] = last.type === 'hold-seat' ? ['book-seat', 'release-seat'] : []
    return { look: 'waiting', text: waiting(last, connection.state), can: new Set(can) }
  }
  const found = known.seats.get(seat)!
  const isBooked = found.state === 'booked'
  const can: WishType[] = isBooked ? ['release-seat'] : ['book-seat', 'release-seat']
  return { look: isBooked ? 'booked' : 'held', text: having(found), can: new Set(can) }
}

function draw(): void {
  map.draw(known.seats, lookOf)
  const names = new Set([...known.own, ...wishes.seats()])
  const faces = new Map([...names].map((seat) => [seat, faceOf(seat)]))
  cards.draw(faces)
  part('nothing').hidden = faces.size > 0 || known.seats.size === 0
  part('loading').hidden = known.seats.size > 0
  const { state } = connection
  part('connection').dataset['state'] = state
  part('connection').textContent = connectionTexts[state]
  part('login').hidden = state !== 'stranger'
  const isOld = state !== 'online' && known.at !== undefined
  part('as-of').hidden = !isOld
  if (isOld) part('as-of').textContent = `The map is as of ${time(known.at!)}.`
}

/**
 * A hidden tab needs no stream, and a browser opens only six to one server. A stream that was open while the
 * machine slept or the network changed may be dead without notice.
 */
function watch(): void {
  if (document.hidden) known.rest()
  else known.follow()
}
addEventListener('online', watch)
document.addEventListener('visibilitychange', watch)
watch()
draw()

/** The page: what is on the screen follows from what the client knows, and is drawn anew whenever that changes. */
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
import { ending, having, type Look, standings, time, waiting } from './words.ts'

const { flight } = flightSold
const part = (id: string) => document.getElementById(id)!

// Before all else, so that a page which is reloaded in a tunnel opens.
void navigator.serviceWorker?.register('/service-worker.js')

const name = await passenger()
part('passenger').textContent = `Passenger ${name.slice(0, 4).toUpperCase()}`

const connection = new Connection(draw)
const hence = client<Seats>({
  url: '/hence',
  // One outbox a passenger: what one has wished is never sent as another.
  outbox: indexedDb({ name: `seats of ${name}` }),
  // Should the browser's passenger change under this page, the site refuses what it sends.
  headers: { passenger: name },
  fetch: connection.fetch,
  // People are waiting: what gets no answer is asked again soon, and after an outage the page is back in seconds.
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
    // A hold that was refused takes the booking behind it along; the first note said why.
    const follows = type === 'book-seat' && note.tone === 'sorry' && notes.toneOf(seat) === 'sorry'
    if (!follows) notes.show(seat, note)
  },
})
// Whoever comes then may be another passenger, with an outbox of their own.
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
    // What is asked for next waits its turn, so a booking can be asked for before the hold is granted.
    const can: WishType[] = last.type === 'hold-seat' ? ['book-seat', 'release-seat'] : []
    return { look: 'waiting', text: waiting(last, connection.standing), can: new Set(can) }
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
  const { standing } = connection
  part('standing').dataset['standing'] = standing
  part('standing').textContent = standings[standing]
  part('login').hidden = standing !== 'stranger'
  const isOld = standing !== 'online' && known.at !== undefined
  part('as-of').hidden = !isOld
  if (isOld) part('as-of').textContent = `The map is as of ${time(known.at!)}.`
}

/**
 * A hidden tab needs no stream, of which a browser opens six to one server. And a stream that slept with the machine,
 * or was there before the network changed, may be dead without knowing it.
 */
function watch(): void {
  if (document.hidden) known.rest()
  else known.follow()
}
addEventListener('online', watch)
document.addEventListener('visibilitychange', watch)
watch()
draw()

import type { Engine } from 'hence'
import type { Airline } from './airline.ts'

/** Some made-up days of the airline, with its faults: too many bookings, late passengers, smaller planes. */
export interface Traffic {
  /** Returns numbers in [0, 1). */
  random(): number
  /** Begins the ids of flights, bookings and requests: the same name is the same traffic. */
  readonly name: string
  readonly flights: number
  /** Called before each request, for example to wait. */
  before?(): Promise<void> | void
}

const seatsOf = (flight: number) => 12 + (flight % 4) * 4

/** Sends all requests of some flights, one after the other. */
export async function fly(engine: Engine<Airline>, traffic: Traffic): Promise<void> {
  const { random, name, flights } = traffic
  let sent = 0
  const send = async (type: string, input: object, principal = 'desk') => {
    await traffic.before?.()
    const requestId = `${name}-${String(++sent).padStart(5, '0')}`
    await engine.submit(type as never, input as never, { requestId, principal })
  }
  for (let n = 0; n < flights; n++) {
    const seats = seatsOf(n)
    // The last plane of a round has no later one, so nobody can be rebooked.
    const flight = `HE${100 + n}-${name}${n % 3 === 2 ? '-last' : ''}`
    await send('open-flight', { flight, seats })
    // Every second flight sells more than its margin allows.
    const wanted = n % 2 === 0 ? seats + 2 + (n % 3) : seats - 3
    const booked: { booking: string; owner: string }[] = []
    for (let i = 0; i < wanted; i++) {
      const owner = passengers[Math.floor(random() * passengers.length)]!
      const booking = `${flight}/${String(i + 1).padStart(2, '0')}`
      await send('book', { booking, flight, fare: random() < 0.7 ? 'saver' : 'flex' }, owner)
      booked.push({ booking, owner })
      // An impatient passenger clicks again under another id, and is rejected.
      if (random() < 0.08) await send('book', { booking, flight, fare: 'flex' }, owner)
    }
    for (const { booking, owner } of booked) {
      const chance = random()
      if (chance < 0.5) await send('check-in', { booking }, owner)
      else if (chance < 0.56) await send('cancel', { booking }, owner)
    }
    // The shift lead decides some of the violations; the others wait for you.
    if (n % 6 === 2) {
      await engine.idle()
      const open = await engine.violations.list({ state: 'open', limit: 1_000 })
      for (const { id, key, constraint } of open.filter(({ key }) => key === flight)) {
        await engine.violations.resolve(
          { violation: id, key, action: 'compensate', reason: `the ${constraint} of ${key} are sold out` },
          { requestId: `${name}-decided-${n}-${id}`, principal: 'shift-lead' },
        )
      }
    }
    if (n % 5 === 3) await send('change-aircraft', { flight, seats: seats - 5 })
    if (n % 4 === 1) await send('depart', { flight })
  }
}

const passengers = [
  ...['ann', 'bob', 'cyd', 'dan', 'eve', 'fay', 'gil', 'hal', 'ida', 'jon'],
  ...['kai', 'lea', 'max', 'nia', 'oda', 'pia', 'rex', 'sam', 'tea', 'uma'],
]

import type { ConnectionState } from './connection.ts'
import type { Seat, SeatName } from './known-seats.ts'
import type { Asked, WishEnd, WishType } from './wishes.ts'

/** The state of a seat for this passenger. */
export type Look = 'free' | 'taken' | 'held' | 'booked' | 'waiting'

export const looks: Readonly<Record<Look, string>> = {
  free: 'free',
  taken: 'taken',
  held: 'held for you',
  booked: 'booked by you',
  waiting: 'your request is on its way',
}

export const connectionTexts: Readonly<Record<ConnectionState, string>> = {
  online: 'Online',
  offline: 'Offline',
  unanswered: 'No answer',
  stranger: 'Not known',
}

export interface Note {
  readonly tone: 'good' | 'sorry'
  readonly text: string
}

export function time(ms: number): string {
  return new Date(ms).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })
}

const waits: Readonly<Record<WishType, string>> = {
  'hold-seat': 'To be held for you.',
  'book-seat': 'To be booked.',
  'release-seat': 'To be released.',
}

/** The text on the card of a seat whose last request is not decided. */
export function waiting({ type, isStored }: Asked, state: ConnectionState): string {
  if (!isStored) return `${waits[type]} One moment …`
  if (state === 'offline') return `${waits[type]} It will be sent when you are online.`
  if (state === 'unanswered') return `${waits[type]} The server does not answer. It will be sent again.`
  if (state === 'stranger') return `${waits[type]} It cannot be sent now.`
  return `${waits[type]} Sending …`
}

/** The text on the card of a seat that is held or booked. */
export function having({ state, until }: Seat): string {
  if (state === 'booked') return 'Booked. Have a good flight.'
  return until === undefined ? 'Held for you.' : `Held for you until ${time(until)}.`
}

/** The outcome of a request, as a note for the passenger. */
export function ending(type: WishType, name: SeatName, end: WishEnd, own: boolean): Note {
  if ('error' in end) return sorry(`${name}: ${end.error.message}`)
  const { reply } = end
  if (reply.status === 'failed') {
    return sorry(
      `Something went wrong with seat ${name} on our side, and nothing was changed. We are looking into it.`,
    )
  }
  if (reply.status === 'rejected') {
    if (reply.reason === 'already-booked') return good(`Seat ${name} is booked for you already.`)
    if (reply.reason === 'no-such-seat') return sorry(`There is no seat ${name}.`)
    if (reply.reason === 'seat-taken') {
      if (own) return good(`Seat ${name} is yours already.`)
      return sorry(`Somebody else was faster: seat ${name} is taken. Please choose another.`)
    }
    if (type === 'release-seat') return good(`Seat ${name} was no longer yours.`)
    return sorry(
      `Seat ${name} was not booked, because it was no longer held for you. Please choose a seat again.`,
    )
  }
  if (type === 'book-seat') return good(`Seat ${name} is booked.`)
  if (type === 'release-seat') return good(`Seat ${name} is free again.`)
  return good(`Seat ${name} is held for you.`)
}

function good(text: string): Note {
  return { tone: 'good', text }
}

function sorry(text: string): Note {
  return { tone: 'sorry', text }
}

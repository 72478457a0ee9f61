import { app, scopes } from 'hence'
import { z } from 'zod'

const [box] = scopes('box')
const boxes = box.table('boxes', { value: z.object({ count: z.int() }) })
const data = z.object({ to: z.string() })
const sent = box.event('sent', { data, key: ({ to }) => to })
const send = box.request('send', {
  input: z.object({ from: z.string(), to: z.string() }),
  key: ({ from }) => from,
  derive: (tx, { to }) => tx.emit(sent, { to }),
})
const receive = box.on(sent, (tx) => tx.put(boxes, { count: (tx.get(boxes)?.count ?? 0) + 1 }))
export const post = app('post', { requests: [send], tables: [boxes], reactions: [receive] })

export function house() {
  const [seat, trip] = scopes('seat', 'trip')
  const taken = seat.unique('taken')
  const book = trip.request('book', {
    input: z.object({ trip: z.string(), seat: z.string() }),
    key: (input) => input.trip,
    claims: (input) => [taken.claim(input.seat)],
    derive: () => null,
  })
  return app('house', { requests: [book], tables: [], constraints: [taken] })
}

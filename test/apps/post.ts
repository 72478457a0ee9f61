import { app, scopes } from 'hence'
import { z } from 'zod'

const [box] = scopes('box')
const boxes = box.table('boxes', { value: z.object({ got: z.int() }) })
const sent = box.event('sent', { data: z.object({ to: z.string() }), key: ({ to }) => to })
const send = box.request('send', {
  input: z.object({ from: z.string(), to: z.string() }),
  key: ({ from }) => from,
  derive: (tx, { to }) => tx.emit(sent, { to }),
})
const receive = box.on(sent, (tx) => tx.put(boxes, { got: (tx.get(boxes)?.got ?? 0) + 1 }))
export const post = app('post', { requests: [send], tables: [boxes], reactions: [receive] })

import { app, scopes } from 'hence'
import { z } from 'zod'

export function house() {
  const [box] = scopes('box')
  const boxes = box.table('boxes', { value: z.object({ count: z.int() }) })
  const add = box.request('add', {
    input: z.object({ box: z.string() }),
    key: (input) => input.box,
    derive: (tx) => tx.put(boxes, { count: (tx.get(boxes)?.count ?? 0) + 1 }),
  })
  return app('house', { requests: [add], tables: [boxes] })
}

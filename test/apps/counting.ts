import { app, scopes } from 'hence'
import { z } from 'zod'

const [box] = scopes('box')
const boxes = box.table('boxes', { value: z.object({ count: z.int() }) })
const add = box.request('add', {
  input: z.object({}),
  key: () => 'box',
  derive: (tx) => tx.put(boxes, { count: (tx.get(boxes)?.count ?? 0) + 1 }),
})
export const counting = app('counting', { requests: [add], tables: [boxes] })

/** Versions of an app that write into every row which version derived it. */
import { type App, app, scopes } from 'hence'
import { z } from 'zod'

export function marked(mark: string): App {
  const [box, shelf] = scopes('box', 'shelf')
  const value = z.object({ sum: z.int(), mark: z.string() })
  const boxes = box.table('boxes', { value })
  const shelves = shelf.table('shelves', { value })
  const full = shelf.event('full', {
    data: z.object({ shelf: z.string(), n: z.int() }),
    key: (data) => data.shelf,
  })
  const put = box.request('put', {
    input: z.object({ box: z.string(), shelf: z.string(), n: z.int() }),
    key: (input) => input.box,
    derive(tx, { shelf, n }) {
      tx.put(boxes, { sum: (tx.get(boxes)?.sum ?? 0) + n, mark })
      tx.emit(full, { shelf, n })
    },
  })
  const fills = shelf.on(full, (tx, { n }) => {
    tx.put(shelves, { sum: (tx.get(shelves)?.sum ?? 0) + n, mark })
  })
  return app(`marked-${mark}`, { requests: [put], tables: [boxes, shelves], reactions: [fills] }) as App
}

import { type Advice, app, HenceError, scopes } from 'hence'
import { z } from 'zod'

const [box] = scopes('box')
const boxes = box.table('boxes', { value: z.object({ full: z.boolean() }) })
export const advice = z.enum(['retry', 'change', 'operator'])
const opened = box.event('opened', {
  data: z.object({ box: z.string(), advice }),
  key: (data) => data.box,
})
const throwing = (advice: Advice) => {
  throw new HenceError('box-jammed', advice, 'The box is jammed.')
}
const jam = box.request('jam', {
  input: z.object({ box: z.string(), advice, where: z.enum(['derive', 'reaction', 'timer']) }),
  key: (input) => input.box,
  derive(tx, { box, advice, where }) {
    if (where === 'derive') throwing(advice)
    else if (where === 'reaction') tx.emit(opened, { box, advice })
    else tx.schedule(opened, { box, advice }, { at: tx.now })
  },
})
const look = box.request('look', {
  input: z.object({ box: z.string() }),
  key: (input) => input.box,
  derive(tx) {
    try {
      return { full: tx.get(boxes)?.full ?? false }
    } catch {
      return { full: false }
    }
  },
})
const react = box.on(opened, (_, { advice }) => throwing(advice))
export const house = app('house', { requests: [jam, look], tables: [boxes], reactions: [react] })

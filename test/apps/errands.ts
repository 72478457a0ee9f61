/** Errands are data: a request lists what to claim and what to do, and each place records what it did, in order. */
import { app, reject, scopes, type Tx } from 'hence'
import { z } from 'zod'

const [pool, place] = scopes('pool', 'place')

const units = pool.capacity('units', { limit: 2, mode: 'strict' })

/** Everything that was derived for a place, in order, with its `tx.now`. */
const diary = place.table('diary', { value: z.object({ steps: z.array(z.string()) }) })
/** By sender: the texts that came from it, in order. */
const letters = place.table('letters', { key: ['string'], value: z.object({ texts: z.array(z.string()) }) })

const action = z.discriminatedUnion('do', [
  z.object({ do: z.literal('write'), text: z.string() }),
  z.object({ do: z.literal('self'), text: z.string() }),
  z.object({ do: z.literal('send'), to: z.string(), text: z.string() }),
  z.object({ do: z.literal('set'), name: z.string(), inMs: z.int() }),
  z.object({ do: z.literal('cancel'), name: z.string() }),
  z.object({ do: z.literal('release'), pool: z.string() }),
  z.object({ do: z.literal('reject') }),
  z.object({ do: z.literal('throw') }),
])
export type Action = z.infer<typeof action>

const selfSent = place.event('self-sent', {
  data: z.object({ place: z.string(), text: z.string(), again: z.int() }),
  key: (data) => data.place,
})
const rang = place.event('rang', {
  data: z.object({ place: z.string(), name: z.string() }),
  key: (data) => data.place,
})
const sent = place.event('sent', {
  data: z.object({ place: z.string(), from: z.string(), text: z.string() }),
  key: (data) => data.place,
})

function write(tx: Tx<'place'>, text: string): void {
  tx.put(diary, { steps: [...(tx.get(diary)?.steps ?? []), `${text} at ${tx.now}`] })
}

const run = place.request('run', {
  input: z.object({
    place: z.string(),
    claims: z.array(z.object({ pool: z.string(), units: z.int() })),
    actions: z.array(action),
  }),
  key: (input) => input.place,
  claims: (input) => input.claims.map((each) => units.claim(each.pool, each.units)),
  derive(tx, { place, actions }) {
    for (const each of actions) {
      if (each.do === 'write') write(tx, each.text)
      else if (each.do === 'self') tx.emit(selfSent, { place, text: each.text, again: 1 })
      else if (each.do === 'send') tx.emit(sent, { place: each.to, from: place, text: each.text })
      else if (each.do === 'set')
        tx.schedule(rang, { place, name: each.name }, { at: tx.now + each.inMs, key: each.name })
      else if (each.do === 'cancel')
        write(tx, `${each.name} cancelled: ${tx.cancel(rang, { key: each.name })}`)
      else if (each.do === 'release') write(tx, `released: ${tx.release(units, each.pool)}`)
      else if (each.do === 'reject') return reject('not-wanted')
      else throw new Error('broken')
    }
    return tx.get(diary)?.steps.length ?? 0
  },
})

const onSelfSent = place.on(selfSent, (tx, { place, text, again }) => {
  write(tx, text)
  if (again > 0) tx.emit(selfSent, { place, text: `${text}, again`, again: again - 1 })
})
const onRang = place.on(rang, (tx, { place, name }) => {
  write(tx, `${name} rang`)
  tx.emit(selfSent, { place, text: `after ${name}`, again: 0 })
})
const onSent = place.on(sent, (tx, { from, text }) => {
  tx.put(letters, from, { texts: [...(tx.get(letters, from)?.texts ?? []), text] })
})

export default app('errands', {
  requests: [run],
  tables: [diary, letters],
  constraints: [units],
  reactions: [onSelfSent, onRang, onSent],
})

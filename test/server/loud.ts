/** An app that repeats what it is sent wherever it can: in rows, events, effects, rejections and errors. */
import { app, effect, reject, scopes } from 'hence'
import { z } from 'zod'

const [person] = scopes('person')
const words = z.object({ who: z.string(), text: z.string() })

const call = effect('call', { input: z.object({ text: z.string() }) })
const said = person.table('said', {
  value: z.object({ text: z.string() }),
  read: (_, row) => {
    throw new Error(row.text)
  },
})
const say = person.request('say', {
  input: words,
  key: (input) => input.who,
  derive(tx, { text }) {
    tx.put(said, { text })
    tx.effect(call, { text })
    return { text }
  },
})
const refuse = person.request('refuse', {
  input: words,
  key: (input) => input.who,
  derive: (_, { text }) => reject('refused', { text }),
})
const shout = person.request('shout', {
  input: words,
  key: (input) => input.who,
  derive(_, { text }) {
    throw new Error(text)
  },
})

export default app('loud', { requests: [say, refuse, shout], tables: [said], effects: [call] })

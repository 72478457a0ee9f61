/** Derivations that say too much, and effects whose keys look alike. */
import { app, effect, reject, scopes } from 'hence'
import { z } from 'zod'

const [box] = scopes('box')

const letter = effect('letter', { input: z.object({ n: z.int() }) })

const input = z.object({ box: z.string(), length: z.int() })

const fail = box.request('fail', {
  input,
  key: (input) => input.box,
  derive(_, { length }) {
    throw new Error('x'.repeat(length))
  },
})

const refuse = box.request('refuse', {
  input,
  key: (input) => input.box,
  derive: (_, { length }) => reject('x'.repeat(length)),
})

const say = box.request('say', {
  input,
  key: (input) => input.box,
  derive: (_, { length }) => 'ä'.repeat(length),
})

/** Writes a letter with a key that JSON cannot carry, or that is no text. */
const write = box.request('write', {
  input: z.object({ box: z.string(), how: z.enum(['half', 'number', 'text']) }),
  key: (input) => input.box,
  derive(tx, { how }) {
    const keys = { half: '\ud800', number: 0 as never, text: '0' }
    tx.effect(letter, { n: 1 })
    tx.effect(letter, { n: 2 }, { key: keys[how] })
  },
})

export default app('long-texts', { requests: [fail, refuse, say, write], tables: [], effects: [letter] })

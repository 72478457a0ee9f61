/** Rows as large as a request may make them. */
import { app, effect, scopes } from 'hence'
import { z } from 'zod'

const [box] = scopes('box')

const rows = box.table('rows', { value: z.object({ text: z.string() }) })
const letter = effect('letter', { input: z.object({ text: z.string() }) })

const write = box.request('write', {
  input: z.object({ key: z.string(), text: z.string() }),
  key: (input) => input.key,
  derive(tx, { text }) {
    tx.put(rows, { text })
    return text.length
  },
})
/** A small request that asks for a large effect. */
const send = box.request('send', {
  input: z.object({ key: z.string(), length: z.int() }),
  key: (input) => input.key,
  derive: (tx, { length }) => tx.effect(letter, { text: 'x'.repeat(length) }),
})

export default app('large-rows', { requests: [write, send], tables: [rows], effects: [letter] })

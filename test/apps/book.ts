import { app, scopes } from 'hence'
import { z } from 'zod'

const [person] = scopes('person')
const write = (double: boolean) =>
  person.request('write', {
    input: z.object({ name: z.string(), n: z.int() }),
    key: (input) => input.name,
    derive: double
      ? (tx, { n }) => {
          tx.put(sums, { n: 2 * n })
          tx.put(notes, { n })
        }
      : (tx, { n }) => {
          tx.put(sums, { n })
        },
  })
const value = z.object({ n: z.int() })
const sums = person.table('sums', { value })
const notes = person.table('notes', { value, read: { equals: (who) => who.id } })
export const before = app('book', { requests: [write(false)], tables: [sums] })
export const after = app('book', { requests: [write(true)], tables: [sums, notes] })

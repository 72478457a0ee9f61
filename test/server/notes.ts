/** An app for tests of the server: people write notes, and read their own. */
import { app, reject, scopes } from 'hence'
import { z } from 'zod'

const [person, all] = scopes('person', 'all')

const notes = person.table('notes', {
  key: ['number'],
  value: z.object({ owner: z.string(), text: z.string(), stars: z.int() }),
  indexes: { byStars: ['stars'], byOwner: ['owner'], byOwnerAndStars: ['owner', 'stars'] },
  read: { index: 'byOwner', equals: (who) => who.id },
})
const inbox = person.table('inbox', {
  key: ['string'],
  value: z.object({ from: z.string(), text: z.string() }),
  read: { equals: (who) => who.id },
})
/** A function of the row, for single keys only. */
const moods = person.table('moods', {
  value: z.object({ mood: z.string() }),
  read: (who, row) => {
    if (row.mood === 'bad') throw new Error('a rule that fails')
    while (row.mood === 'endless');
    return who.id !== ''
  },
})
/** It has no rule, so it takes the permission `read`. */
const totals = all.table('totals', { value: z.object({ notes: z.int() }) })

const written = all.event('written', { data: z.object({ all: z.string() }), key: (data) => data.all })
const sent = person.event('sent', {
  data: z.object({ to: z.string(), id: z.string(), from: z.string(), text: z.string() }),
  key: (data) => data.to,
})

const write = person.request('write', {
  input: z.object({
    number: z.int().min(0),
    text: z.string().max(20_000),
    stars: z.int().min(0).max(5).default(0),
    owner: z.string().min(1).max(64),
  }),
  key: (input) => input.owner,
  derive(tx, { owner, number, text, stars }) {
    if (tx.get(notes, number)) return reject('note-exists', { number })
    tx.put(notes, number, { owner, text, stars })
    tx.emit(written, { all: 'all' })
    return { number }
  },
})
const send = person.request('send', {
  input: z.object({ from: z.string(), to: z.string(), text: z.string() }),
  key: (input) => input.from,
  derive(tx, { from, to, text }) {
    tx.emit(sent, { to, id: tx.requestId, from, text })
  },
})
const feel = person.request('feel', {
  input: z.object({ owner: z.string(), mood: z.string() }),
  key: (input) => input.owner,
  derive(tx, { mood }) {
    tx.put(moods, { mood })
  },
})
const explode = person.request('explode', {
  input: z.object({ owner: z.string() }),
  key: (input) => input.owner,
  derive() {
    throw new TypeError('boom')
  },
})
const count = all.on(written, (tx) => {
  tx.put(totals, { notes: (tx.get(totals)?.notes ?? 0) + 1 })
})
const deliver = person.on(sent, (tx, { id, from, text }) => {
  tx.put(inbox, id, { from, text })
})

export default app('notes', {
  requests: [write, send, feel, explode],
  tables: [notes, inbox, moods, totals],
  reactions: [count, deliver],
})

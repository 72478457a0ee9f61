import { app, effect, reject, scopes } from 'hence'
import { z } from 'zod'

const [source, target] = scopes('source', 'target')
const sums = target.table('sums', { value: z.object({ sum: z.number() }) })
const told = target.event('told', {
  version: 3,
  upcast: { 1: (data) => data, 2: (data) => data },
  data: z.object({ to: z.string(), by: z.number() }),
  key: (data) => data.to,
})
const tell = source.request('tell', {
  version: 2,
  upcast: { 1: (input) => input },
  input: z.object({ from: z.string(), to: z.string(), by: z.number().default(1) }),
  key: (input) => input.from,
  derive(tx, { from, to, by }) {
    tx.emit(told, { to, by })
    tx.effect(shout, { to })
    tx.schedule(later, { from }, { at: tx.now + 1 })
  },
})
export const shout = effect('shout', { input: z.object({ to: z.string() }), result: z.string() })
const later = source.event('later', { data: z.object({ from: z.string() }), key: (data) => data.from })
export const teller = app('teller', {
  requests: [tell],
  tables: [sums],
  effects: [shout],
  reactions: [
    target.on(told, (tx, { by }) => tx.put(sums, { sum: (tx.get(sums)?.sum ?? 0) + by })),
    source.on(later, () => {}),
  ],
})

export const louder = app('teller-2', {
  requests: [tell],
  tables: [sums],
  effects: [shout],
  reactions: [
    target.on(told, (tx, { by }) => {
      if (by === 13) throw new Error('bad luck')
      tx.put(sums, { sum: (tx.get(sums)?.sum ?? 0) + 2 * by })
    }),
    source.on(later, () => {}),
    target.correct((tx, correction) => {
      if (correction.kind === 'row') tx.emit(told, { to: tx.key, by: 0 })
    }),
  ],
})
export const silent = app('teller-3', {
  requests: [
    source.request('tell', {
      version: 2,
      upcast: { 1: (input) => input },
      input: z.object({ from: z.string(), to: z.string(), by: z.number().default(1) }),
      key: (input) => input.from,
      derive: (_, { by }) => (by > 20 ? reject('too-many') : undefined),
    }),
  ],
  tables: [sums],
  effects: [shout],
  reactions: [
    source.on(later, () => {}),
    target.on(told, () => {}),
    source.correct(() => {}),
    target.correct(() => {}),
  ],
})

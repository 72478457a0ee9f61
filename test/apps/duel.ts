import { app, scopes } from 'hence'
import { anything } from './anything.ts'

export const [thing, hand] = scopes('thing', 'hand')
const taken = thing.unique('taken')
const hands = hand.table('hands', { key: ['string'], value: anything<{ things: string[] }>() })
const take = hand.request('take', {
  input: anything<{ hand: string; things: string[] }>(),
  key: (input) => input.hand,
  claims: ({ things }) => things.map((each) => taken.claim(each)),
  derive: (tx, { things }) => tx.put(hands, tx.requestId, { things }),
})
const drop = hand.request('drop', {
  input: anything<{ hand: string }>(),
  key: (input) => input.hand,
  derive(tx) {
    for (const { key } of tx.scan(hands)) tx.delete(hands, key[0])
    return { released: tx.release(taken) }
  },
})
export const duel = app('duel', { requests: [take, drop], tables: [hands], constraints: [taken] })

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Emission, Origin } from './chain.ts'
import { HostTurn } from './host-turn.ts'

const facts = { chain: { identity: 'r', rootPartition: 0, rootOffset: 1 }, time: 5, partition: 0 }

/** Turns of one derivation, and the ids of what they send. */
function turns(seed = 's') {
  const origin = new Origin(0, () => seed)
  const emissions: Emission[] = []
  const turn = () => new HostTurn({} as never, 'k', facts, origin, emissions)
  return { turn, ids: () => emissions.map((each) => each.origin.seed) }
}

const claim = (identity: string) => ({ constraint: 'c', identity })
const lost = (identity: string) => {
  return { identity, scope: 's', holder: 'h', constraint: 'c', key: 'k', violation: null }
}

test('the messages of a derivation have different ids, whichever turn sends them', () => {
  const { turn, ids } = turns()
  const [first, second] = [turn(), turn()]
  first.send('hence:release', 'a', claim('r'))
  second.send('hence:release', 'a', claim('r'))
  second.send('hence:release', 'a', claim('q'))
  second.send('hence:release', 'b', claim('r'))
  second.send('hence:confirm', 'a', claim('r'))
  first.send('hence:release', 'a', claim('r'))
  assert.equal(new Set(ids()).size, 6)
  assert.notEqual(first.id('v'), second.id('v'))
})

test('a message has the same id whatever is sent before it', () => {
  const [one, other] = [turns(), turns()]
  one.turn().send('hence:compensate', 'h', lost('r'))
  other.turn().send('hence:compensate', 'h', lost('q'))
  other.turn().send('hence:compensate', 'h', lost('r'))
  assert.equal(one.ids()[0], other.ids()[1])
})

test('a message that has the name of something keeps it, whichever step sends it', () => {
  const [one, other] = [turns('s'), turns('t')]
  for (const id of ['v', 'w']) one.turn().send('hence:compensate', 'h', lost('r'), { of: id })
  other.turn().send('hence:compensate', 'h', lost('r'), { of: 'v' })
  assert.equal(one.ids()[0], other.ids()[0])
  assert.notEqual(one.ids()[0], one.ids()[1])
})

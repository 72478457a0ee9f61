import { app, type Event, reject, scopes, type Tx } from 'hence'
import type { Action, AppPlan } from '../simulation/random-app.ts'
import { anything } from './anything.ts'

/** The longest chain of events, since every reaction may emit. */
export const hopsMax = 3
export const keyCount = 12
export const keyOf = (number: number): string => `key-${((number % keyCount) + keyCount) % keyCount}`

/** The data of a request or event of these apps. */
export interface Payload {
  readonly key: number
  readonly value: number
  readonly hops: number
}

export const mix = (before: number, by: number): number =>
  (Math.imul(before ^ by, 0x9e3779b1) ^ (before >>> 15)) >>> 0

export function plannedApp(plan: AppPlan) {
  const [thing] = scopes('thing')
  const payload = anything<Payload>()
  const mixes = thing.table('mixes', { value: anything<{ mix: number }>(), indexes: { byMix: ['mix'] } })
  const lists = thing.table('lists', { value: anything<{ value: number }>(), key: ['number'] })
  const events: Event<'thing', string, Payload>[] = plan.reactions.map((_, i) =>
    thing.event(`event-${i}`, { data: payload, key: ({ key }) => keyOf(key) }),
  )

  function carryOut(tx: Tx<'thing'>, todo: readonly Action[], input: Payload): 'rejected' | number {
    let state = tx.get(mixes)?.mix ?? 0
    const put = (value: number) => {
      state = value
      tx.put(mixes, { mix: value })
    }
    put(mix(state, input.value))
    for (const each of todo) {
      if (each.do === 'mix') put(mix(state, each.by))
      else if (each.do === 'put') tx.put(lists, each.slot, { value: state })
      else if (each.do === 'delete') put(mix(state, tx.delete(lists, each.slot) ? 1 : 2))
      else if (each.do === 'scan')
        for (const { key, value } of tx.scan(lists)) put(mix(state, key[0] + value.value))
      else if (each.do === 'random') put(mix(state, Math.floor(tx.random() * 2 ** 32)))
      else if (each.do === 'emit') {
        if (input.hops >= hopsMax) continue
        tx.emit(events[each.event]!, { key: input.key + each.hop, value: state, hops: input.hops + 1 })
      } else if (state % each.when === 0) {
        if (each.do === 'throw') throw new Error(`divided by ${each.when}`)
        return 'rejected'
      }
    }
    return state
  }

  return app('planned', {
    tables: [mixes, lists],
    requests: plan.requests.map((todo, i) =>
      thing.request(`request-${i}`, {
        input: payload,
        key: ({ key }) => keyOf(key),
        derive(tx, input) {
          const result = carryOut(tx, todo, input)
          return result === 'rejected' ? reject('divided') : { mix: result }
        },
      }),
    ),
    reactions: plan.reactions.map((todo, i) =>
      thing.on(events[i]!, (tx, data) => {
        carryOut(tx, todo, data)
      }),
    ),
  })
}

import type { Constraint } from '../app/index.ts'
import { assert } from '../assert.ts'
import { encodeKey } from '../state/keys.ts'
import type { ClaimRow, Usage, WaiterRow } from './tables.ts'
import type { Turn } from './turn.ts'

// The waiting list of a key: claims that its judge could not grant, in the order in which they were made.

/** How many claims one step serves. The judge goes on a moment later. */
const servedPerStep = 100

const maxBytesByDefault = 1024 * 1024
/** Room beside the texts of a row: numbers, times, the entries of its index. */
const overheadBytes = 250

/** Puts a claim in line; returns the usage with it, or undefined if there is no room or no list. */
export function queue(
  turn: Turn,
  { name, waitingList }: Constraint,
  usage: Usage,
  identity: string,
  number: number,
  { units, priority, holder, scope }: Pick<ClaimRow, 'units' | 'priority' | 'holder' | 'scope'>,
): Usage | undefined {
  const { maxBytes = maxBytesByDefault } = waitingList ?? { maxBytes: 0 }
  const bytes = overheadBytes + Buffer.byteLength(turn.key + name + identity + holder + scope)
  const waitingBytes = usage.waitingBytes + bytes
  if (waitingBytes > maxBytes) return undefined
  const about = { constraint: name, number, units, priority, holder, scope }
  const row: WaiterRow = { ...about, at: turn.now, bytes, id: turn.id(`wait ${name} ${identity}`) }
  turn.rows('waiters').put(encodeKey([turn.key, name, identity]), row)
  return { ...usage, waiting: usage.waiting + 1, waitingBytes }
}

/** The place in line of a claim; infinite if it does not wait. */
export function numberOf(turn: Turn, name: string, identity: string): number {
  const row = turn.rows('waiters').get(encodeKey([turn.key, name, identity])) as WaiterRow | undefined
  return row?.number ?? Number.POSITIVE_INFINITY
}

/** Whether one of these requests is the first in line, for at least these units: then nobody is overtaken. */
export function isNext(turn: Turn, name: string, identities: readonly string[], units: number): boolean {
  const query = { index: 'line', prefix: [name], limit: 1 }
  const [first] = turn.rows('waiters').scan(query, encodeKey([turn.key]))
  return identities.includes(first!.key[2] as string) && units <= (first!.value as WaiterRow).units
}

/** Takes a claim, or some units of it, out of the line; undefined if it does not wait. */
export function leave(
  turn: Turn,
  name: string,
  usage: Usage,
  identity: string,
  units = Number.POSITIVE_INFINITY,
): Usage | undefined {
  const rows = turn.rows('waiters')
  const key = encodeKey([turn.key, name, identity])
  const row = rows.get(key) as WaiterRow | undefined
  if (row === undefined) return undefined
  if (row.units > units) {
    rows.put(key, { ...row, units: row.units - units })
    return usage
  }
  rows.delete(key)
  const { waiting, waitingBytes } = usage
  assert(waiting > 0 && waitingBytes >= row.bytes, 'who waits is counted', waiting, waitingBytes)
  return { ...usage, waiting: waiting - 1, waitingBytes: waitingBytes - row.bytes }
}

/** Gives `room` free units to the claims in line, in order. One that does not fit holds up the rest. */
export function serve(
  turn: Turn,
  { name, waitingList }: Constraint,
  usage: Usage,
  room: number,
  grant: (identity: string, row: WaiterRow) => void,
): Usage {
  if (usage.waiting === 0 || room <= 0) return usage
  const query = { index: 'line', prefix: [name], limit: Math.min(room, servedPerStep) }
  const rows = turn.rows('waiters').scan(query, encodeKey([turn.key]))
  const confirmBy = waitingList?.confirmMs === undefined ? null : turn.now + waitingList.confirmMs
  let next = usage
  let left = room
  for (const { key, value } of rows) {
    const row = value as WaiterRow
    const { units, holder, scope, id: of } = row
    if (units > left) return next
    const identity = key[2] as string
    left -= units
    next = leave(turn, name, { ...next, claimed: next.claimed + units }, identity)!
    grant(identity, row)
    const about = { identity, scope, holder, constraint: name, key: turn.key }
    turn.send('hence:served', holder, { ...about, confirmBy }, { of })
    // Null ends the time to confirm of an earlier place, that other code gave.
    const data = { constraint: name, identity }
    turn.schedule('hence:unconfirmed', `${name} ${identity}`, confirmBy, data, of)
  }
  if (next.waiting > 0 && left > 0) turn.schedule('hence:serve', name, turn.now + 1, { constraint: name })
  return next
}

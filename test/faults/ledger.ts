import assert from 'node:assert/strict'
import type { Reply } from 'hence'
import { fullAt } from './till.ts'

/** A request of the app in till.ts. */
export interface Wish {
  readonly id: string
  readonly type: 'pay' | 'empty'
  readonly input: { readonly till: string; readonly town?: string; readonly cents?: number }
}

/** The requests of clients and their replies, by request id. */
export interface Told {
  readonly wishes: ReadonlyMap<string, Wish>
  readonly told: ReadonlyMap<string, Reply>
}

/** The tables that follow from the replies alone, each outcome counted once. */
export function expected({ wishes, told }: Told): { tills: unknown; towns: unknown } {
  const tills = new Map<string, { payments: number; paid: number; taken: number; receipts: Set<string> }>()
  const towns = new Map<string, { cents: number; payments: number }>()
  for (const [id, reply] of told) {
    const { type, input } = wishes.get(id)!
    const till = tills.get(input.till) ?? { payments: 0, paid: 0, taken: 0, receipts: new Set() }
    if (reply.status === 'rejected') {
      assert.equal(reply.reason, type === 'pay' ? 'till-full' : 'till-empty')
      continue
    }
    assert.ok(reply.status === 'accepted', JSON.stringify(reply))
    const value = reply.value as { cents: number; payments: number; receipt: string; taken: number }
    tills.set(input.till, till)
    if (type === 'empty') {
      till.taken += value.taken
      continue
    }
    assert.ok(value.cents <= fullAt)
    till.payments++
    till.paid += input.cents!
    till.receipts.add(`${value.payments} ${value.receipt}`)
    const town = towns.get(input.town!) ?? { cents: 0, payments: 0 }
    towns.set(input.town!, { cents: town.cents + input.cents!, payments: town.payments + 1 })
  }
  for (const { payments, receipts } of tills.values()) assert.equal(receipts.size, payments)
  const sorted = <V>(map: Map<string, V>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1))
  return {
    tills: sorted(tills).map(([key, { payments, paid, taken }]) => ({
      key: [key],
      value: { cents: paid - taken, payments },
    })),
    towns: sorted(towns).map(([key, value]) => ({ key: [key], value })),
  }
}

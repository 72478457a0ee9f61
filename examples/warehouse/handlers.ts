import { handlers } from 'hence'
import type { Warehouse } from './warehouse.ts'

/** The effect handlers; here they only print. A real handler passes `id` to the receiver as its idempotency key. */
export default handlers<Warehouse>({
  apology({ input, id }) {
    const { to, sku, voucher, percent } = input
    console.log(`${id}: to ${to}: sorry, ${sku} ran out. ${percent} % off your next order: ${voucher}`)
  },
  delay({ input, id }) {
    const { to, order, sku, voucher, percent } = input
    console.log(
      `${id}: to ${to}: ${sku} for ${order} comes later. ${percent} % off your next order: ${voucher}`,
    )
  },
  supply({ input: { sku, units }, id }) {
    console.log(`${id}: to the supplier: ${units} of ${sku}, please`)
  },
})

import { handlers } from 'hence'
import type { Warehouse } from './warehouse.ts'

/** The effect handlers; here they only print. A real handler passes `id` to the receiver as its idempotency key. */
export default handlers<Warehouse>({
  apology({ input, id }) {
    const { to, sku, voucher, percent } = input
    console.log(`${id}: to ${to}: sorry, ${sku} ran out. ${percent} % off your next order: ${voucher}`)
  },
})

import { handlers } from 'hence'
import type { Warehouse } from './warehouse.ts'

/** What touches the world; here it only prints. A real handler gives `id` to the receiver as its idempotency key. */
export default handlers<Warehouse>({
  apology({ input, id }) {
    const { to, sku, voucher, percent } = input
    console.log(`${id}: to ${to}: sorry, ${sku} ran out. ${percent} % off your next order: ${voucher}`)
  },
})

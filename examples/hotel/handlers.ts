import { handlers } from 'hence'
import type { Hotel } from './hotel.ts'

/** The effect handlers; here they only print. A real handler passes `id` to the receiver as its idempotency key. */
export default handlers<Hotel>({
  walk({ input, id }) {
    console.log(`${id}: ${input.guest} is walked for ${input.nights} nights from ${input.from}`)
    return { hotel: `the hotel beside ${input.hotel}` }
  },
  refund({ input, id }) {
    console.log(`${id}: ${input.guest} gets all money back for ${input.stay}`)
  },
})

import { handlers } from 'hence'
import type { Hotel } from './hotel.ts'

/** What touches the world; here it only prints. A real handler gives `id` to the receiver as its idempotency key. */
export default handlers<Hotel>({
  walk({ input, id }) {
    console.log(`${id}: ${input.guest} is walked for ${input.nights} nights from ${input.from}`)
    return { hotel: `the hotel beside ${input.hotel}` }
  },
  refund({ input, id }) {
    console.log(`${id}: ${input.guest} gets all money back for ${input.stay}`)
  },
})

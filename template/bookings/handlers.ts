import { handlers } from 'hence'
import type bookings from './bookings.ts'

// Handlers reach the outside world. An effect may be delivered again, always under the same id.
export default handlers<typeof bookings>({
  apology: ({ input, id }) => console.log(`To ${input.to}: we are sorry about ${input.night}. (${id})`),
})

import { HenceError, handlers } from 'hence'
import type { Airline } from './airline.ts'

/**
 * What touches the world; here it only prints. A real handler gives `id` to the receiver as its idempotency key: the
 * same for every try, so that nobody is booked or paid twice.
 */
export default handlers<Airline>({
  rebook({ input, id }) {
    // Given up at once, since trying again would not help.
    if (input.flight.endsWith('-last'))
      throw new HenceError('no-other-flight', 'change', `There is no flight after ${input.flight}.`)
    const flight = `${input.flight}-next`
    console.log(`${id}: ${input.booking} is rebooked from ${input.flight} to ${flight}`)
    return { flight }
  },
  pay({ input, id }) {
    console.log(`${id}: ${input.to} gets ${input.euros} euros for ${input.booking}`)
  },
})

import { HenceError, handlers } from 'hence'
import type { Airline } from './airline.ts'

/**
 * The effect handlers; here they only print. A real handler passes `id` to the receiver as its idempotency
 * key. It is the same for every try, so nobody is booked or paid twice.
 */
export default handlers<Airline>({
  rebook({ input, id }) {
    // Advice `change` gives the effect up at once, since trying again would not help.
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

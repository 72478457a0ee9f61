import { handlers } from 'hence'
import type { Usernames } from './usernames.ts'

/** The effect handlers; here they only print. */
export default handlers<Usernames>({
  'ask-for-name'({ input, id }) {
    console.log(
      `${id}: to ${input.to}: somebody had the name ${input.lost} before you. Please choose another one.`,
    )
  },
})

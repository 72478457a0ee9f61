import { handlers } from 'hence'
import type loud from './loud.ts'

/** Fails with what it is sent, as a receiver's error often repeats its input. */
export default handlers<typeof loud>({
  call: {
    deliver({ input }) {
      throw new Error(input.text)
    },
    triesMax: 1,
  },
})

import { app, scopes } from 'hence'
import { z } from 'zod'

/** An app without tables that throws when more than `most` cents are added. */
export function wallet({ most = Number.MAX_SAFE_INTEGER } = {}) {
  const [account] = scopes('account')
  return app('wallet', {
    tables: [],
    requests: [
      account.request('add', {
        input: z.object({ to: z.string(), cents: z.int() }),
        key: ({ to }) => to,
        derive(_, { cents }) {
          if (cents > most) throw new RangeError(`${cents} cents are too many`)
        },
      }),
    ],
  })
}

import type { SourceRow } from 'hence/postgres'
import type * as passbook from '../apps/passbook.ts'
import { appsOf } from '../apps.ts'

/** The app and the options of a source that the processes of a test share. */
export const sourceOptions = {
  app: () => appsOf<typeof passbook>(import.meta.resolve('../apps/passbook.ts')).bank(),
  source: {
    table: 'outbox',
    pollMs: 5,
    request: ({ account, cents }: SourceRow) => ({
      ...{ type: 'deposit' as const, input: { account, cents } },
      ...{ key: account, principal: 'ann' },
    }),
  },
}

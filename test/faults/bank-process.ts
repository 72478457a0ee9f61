import { createEngine, HenceError, type Reply, type Report } from 'hence'
import { type Account, bank, type Sent } from './bank.ts'

// A process that holds the engine of the bank, so that it can be killed: node bank-process.ts DIRECTORY

/** What it is asked over its channel. */
export type Ask = { readonly send: readonly Sent[] } | { readonly end: true }

/** What it tells. */
export type Tell =
  | { readonly ready: { readonly replayed: number } }
  | { readonly replies: readonly Reply[] }
  | { readonly error: string }
  | { readonly report: Report }
  | { readonly end: End }

/** All there is, when everything has been applied; the process ends after it. */
export interface End {
  readonly accounts: readonly (readonly [string, Account])[]
  readonly digest: string
  readonly applied: readonly number[]
}

const tell = (what: Tell) => process.send!(what)

const engine = await createEngine({
  app: bank,
  data: process.argv[2]!,
  partitions: 3,
  // So few that kills meet checkpoints under way.
  checkpointRows: 100,
  report: (report) => tell({ report }),
})

// Replies of one turn go out together: one message each would be most of the work.
let replies: Reply[] = []
function answer(reply: Reply): void {
  if (replies.push(reply) > 1) return
  setImmediate(() => {
    tell({ replies })
    replies = []
  })
}

process.on('message', async (ask: Ask) => {
  if ('send' in ask) {
    for (const { id, type, input } of ask.send) {
      engine.submit(type, input as never, { requestId: id }).then(answer, (error) => {
        tell({ error: `${id}: ${error instanceof HenceError ? error.code : ''} ${error}` })
      })
    }
    return
  }
  await engine.idle()
  const accounts = (await engine.scan('accounts')).map(({ key, value }) => [key[0], value] as const)
  tell({ end: { accounts, digest: await engine.digest(), applied: engine.stats().applied } })
  await engine.close()
  process.disconnect?.()
})

tell({ ready: { replayed: engine.stats().replayed } })

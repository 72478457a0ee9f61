/**
 * User names: each belongs to one account at a time.
 *
 * An account is decided under its own key and a name under the key of the name, perhaps in different
 * partitions. An account claims its name with the constraint `name-taken`, which makes both agree.
 */
import { app, effect, type Mode, reject, scopes, type Tx } from 'hence'
import { z } from 'zod'

/** Names that differ only in case are one name: claims use lower case. */
const wanted = z.string().regex(/^[A-Za-z][A-Za-z0-9_]{1,30}$/)
const keyOf = (name: string) => name.toLowerCase()

/** @param mode `loose`: accounts are created at once, and a late account is asked to choose another name */
export function usernames(mode: Mode) {
  const [account, name] = scopes('account', 'name')

  const taken = name.unique('name-taken', { mode })
  const accounts = account.table('accounts', {
    value: z.object({
      owner: z.string(),
      /** Null if another account had it first. */
      name: z.string().nullable(),
    }),
    indexes: { byName: ['name'], byOwner: ['owner'] },
    read: { index: 'byOwner', equals: (who) => who.id },
  })
  const askForName = effect('ask-for-name', { input: z.object({ to: z.string(), lost: z.string() }) })

  const register = account.request('register', {
    input: z.object({ account: z.string().min(1), name: wanted }),
    key: (input) => input.account,
    claims: (input) => [taken.claim(keyOf(input.name))],
    derive(tx, input) {
      if (tx.get(accounts)) return reject('account-exists')
      tx.put(accounts, { owner: tx.principal, name: input.name })
    },
    compensate: (tx, input) => lose(tx, input.name),
  })

  const rename = account.request('rename', {
    input: z.object({ account: z.string().min(1), name: wanted }),
    key: (input) => input.account,
    claims: (input) => [taken.claim(keyOf(input.name))],
    derive(tx, input) {
      const row = tx.get(accounts)
      if (!row || row.owner !== tx.principal) return reject('unknown-account')
      // In strict mode the constraint has decided already. An account's own name counts as taken too.
      if (row.name !== null && keyOf(row.name) === keyOf(input.name)) return reject('name-taken')
      tx.release(taken)
      tx.put(accounts, { ...row, name: input.name })
    },
    compensate: (tx, input) => lose(tx, input.name),
  })

  const release = account.request('release', {
    input: z.object({ account: z.string().min(1) }),
    key: (input) => input.account,
    derive(tx) {
      const row = tx.get(accounts)
      if (!row || row.owner !== tx.principal) return reject('unknown-account')
      tx.release(taken)
      tx.delete(accounts)
    },
  })

  /** Only a loose claim can be lost, because the limit of a unique constraint does not fall. */
  function lose(tx: Tx<'account'>, lost: string): void {
    const row = tx.get(accounts)
    if (row?.name !== lost) return
    tx.put(accounts, { ...row, name: null })
    tx.effect(askForName, { to: row.owner, lost })
  }

  return app('usernames', {
    requests: [register, rename, release],
    tables: [accounts],
    constraints: [taken],
    effects: [askForName],
  })
}

const strict = usernames('strict')
export default strict
export type Usernames = typeof strict

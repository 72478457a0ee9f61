/** An app in several versions: money moves between wallets of all partitions, up to a limit, for a fee. */
import { app, effect, reject, scopes } from 'hence'
import { z } from 'zod'

const [wallet] = scopes('wallet')

export const sorry = effect('sorry', { input: z.object({ to: z.string(), text: z.string() }) })

const movement = z.object({ from: z.string(), to: z.string(), cents: z.int().min(1) })

export function wallets({
  most,
  fee,
  isEndless = false,
}: {
  readonly most: number
  readonly fee: number
  /** Whether a derivation never returns. */
  readonly isEndless?: boolean
}) {
  const balances = wallet.table('balances', { value: z.object({ cents: z.int(), moves: z.int() }) })
  const moved = wallet.event('moved', { data: movement, key: ({ to }) => to })
  const move = wallet.request('move', {
    input: movement,
    key: ({ from }) => from,
    derive(tx, { from, to, cents }) {
      while (isEndless);
      if (cents > most) return reject('too-much')
      const { cents: had, moves } = tx.get(balances) ?? { cents: 0, moves: 0 }
      tx.put(balances, { cents: had - cents - fee, moves: moves + 1 })
      tx.emit(moved, { from, to, cents })
      // The value does not depend on earlier moves, or nearly all outcomes would differ in the end.
      return { cents }
    },
  })
  const arrives = wallet.on(moved, (tx, { cents }) => {
    const { cents: had, moves } = tx.get(balances) ?? { cents: 0, moves: 0 }
    // Depends on the order.
    tx.put(balances, { cents: had + cents, moves: (moves * 3 + 1) % 1_000_003 })
  })
  const corrected = wallet.correct((tx, correction) => {
    if (correction.kind === 'outcome') tx.effect(sorry, { to: tx.key, text: correction.after.status })
  })
  return app('wallets', {
    requests: [move],
    tables: [balances],
    reactions: [arrives, corrected],
    effects: [sorry],
  })
}

import { type App, app, effect, reject, scopes } from 'hence'
import { z } from 'zod'

/** Payments with reminders and letters, seats that are overbooked, and rooms that keys wait for. */
export function ledgers(most: number, fee: number) {
  const [account, show, room] = scopes('account', 'show', 'room')
  const letter = effect('letter', { input: z.object({ to: z.string(), text: z.string() }) })
  const seats = show.capacity('seats', { limit: 2, mode: 'loose' })
  const beds = room.capacity('beds', { limit: 2, mode: 'strict' })
  const accounts = account.table('accounts', {
    value: z.object({ cents: z.int(), notes: z.int() }),
    indexes: { byCents: ['cents'] },
  })
  const to = (data: { to: string }) => data.to
  const paid = account.event('paid', { data: z.object({ to: z.string(), cents: z.int() }), key: to })
  const late = account.event('late', { data: z.object({ to: z.string() }), key: to })
  type Notes = Parameters<Parameters<typeof account.correct>[0]>[0]
  const add = (tx: Notes, cents: number, notes = 0) => {
    const row = tx.get(accounts) ?? { cents: 0, notes: 0 }
    tx.put(accounts, { cents: row.cents + cents, notes: row.notes + notes })
  }
  const pay = account.request('pay', {
    input: z.object({ from: z.string(), to: z.string(), cents: z.int() }),
    key: (input) => input.from,
    derive(tx, { from, to, cents }) {
      if (cents > most) return reject('too-much')
      add(tx, -cents - fee)
      tx.emit(paid, { to, cents })
      tx.schedule(late, { to: from }, { at: tx.now + 1_000 * (cents % 5), key: `${cents % 3}` })
      if (cents % 4 === 0) tx.effect(letter, { to, text: `${cents + fee}` })
    },
  })
  const take = { input: z.object({ to: z.string(), what: z.string() }), key: to }
  const seat = account.request('seat', {
    ...take,
    claims: ({ what }) => [seats.claim(what, 1)],
    derive: (tx) => add(tx, -1),
    compensate(tx, { to }) {
      add(tx, 1, 100)
      tx.effect(letter, { to, text: 'sorry' })
    },
  })
  const bed = account.request('bed', {
    ...take,
    claims: ({ what }) => [beds.claim(what, 1)],
    derive: (tx) => add(tx, -2),
  })
  const leave = account.request('leave', { ...take, derive: (tx) => tx.release(beds) })
  return app('ledgers', {
    requests: [pay, seat, bed, leave],
    tables: [accounts],
    constraints: [seats, beds],
    effects: [letter],
    reactions: [
      account.on(paid, (tx, { cents }) => add(tx, cents)),
      account.on(late, (tx) => add(tx, 0, 1)),
      account.correct((tx, correction) => {
        add(tx, 0, 10_000)
        if (correction.kind === 'outcome') tx.effect(letter, { to: tx.key, text: 'corrected' })
      }),
    ],
  }) as App
}

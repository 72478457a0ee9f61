/** Stays in rooms: booking claims the room strictly, under a key of its own. */
import { app, reject, scopes, type Tx } from 'hence'
import { z } from 'zod'

const [room, stay] = scopes('room', 'stay')

const beds = room.capacity('beds', { limit: 1_000, mode: 'strict' })
/** Everything that was derived for a stay, in order, with its time. */
const steps = stay.table('steps', { value: z.object({ done: z.array(z.tuple([z.string(), z.int()])) }) })
const visits = stay.capacity('visits', { limit: 5, mode: 'strict' })

const reminded = stay.event('reminded', { data: z.object({ stay: z.string() }), key: (data) => data.stay })
const noticed = stay.event('noticed', {
  data: z.object({ stay: z.string(), text: z.string() }),
  key: (data) => data.stay,
})

function record(tx: Tx<'stay'>, step: string): void {
  tx.put(steps, { done: [...(tx.get(steps)?.done ?? []), [step, tx.now]] })
}

const input = z.object({ stay: z.string(), room: z.string() })

const book = stay.request('book', {
  input: input.extend({ remindAt: z.int().optional(), uses: z.boolean().default(false) }),
  key: (input) => input.stay,
  claims: (input) => [beds.claim(input.room)],
  derive(tx, { stay, remindAt, uses }) {
    if (tx.get(steps)) return reject('stay-exists')
    if (uses) {
      try {
        tx.usage(visits)
      } catch {}
    }
    record(tx, 'booked')
    if (remindAt !== undefined) tx.schedule(reminded, { stay }, { at: remindAt })
  },
  compensate(tx) {
    record(tx, 'lost')
  },
})

const cancel = stay.request('cancel', {
  input: z.object({ stay: z.string() }),
  key: (input) => input.stay,
  derive(tx) {
    if (!tx.get(steps)) return reject('no-stay')
    tx.release(beds)
    tx.cancel(reminded)
    record(tx, 'cancelled')
  },
})

/** Sets a reminder, with no stay or with one. */
const remind = stay.request('remind', {
  input: z.object({ stay: z.string(), at: z.int() }),
  key: (input) => input.stay,
  derive(tx, { stay, at }) {
    tx.schedule(reminded, { stay }, { at })
  },
})

const note = stay.request('note', {
  input: z.object({ stay: z.string(), text: z.string() }),
  key: (input) => input.stay,
  derive(tx, { text }) {
    record(tx, text)
  },
})

/** Sends a notice from one stay to another. */
const notify = stay.request('notify', {
  input: z.object({ stay: z.string(), to: z.string(), text: z.string() }),
  key: (input) => input.stay,
  derive(tx, { to, text }) {
    tx.emit(noticed, { stay: to, text })
  },
})

const close = room.request('close', {
  input: z.object({ room: z.string(), limit: z.int() }),
  key: (input) => input.room,
  derive(tx, { limit }) {
    tx.setLimit(beds, limit)
  },
})

const onReminded = stay.on(reminded, (tx) => record(tx, 'reminded'))
const onNoticed = stay.on(noticed, (tx, { text }) => record(tx, text))

export default app('stays', {
  requests: [book, cancel, remind, note, notify, close],
  tables: [steps],
  constraints: [beds, visits],
  reactions: [onReminded, onNoticed],
})

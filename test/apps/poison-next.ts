/** The next version of the app of `poison.ts`, which counts twice, and does not end for some inputs either. */
import { app, scopes, type Tx } from 'hence'
import { z } from 'zod'

const [jar] = scopes('jar')

const counts = jar.table('counts', { value: z.object({ n: z.int() }) })

const sent = jar.event('sent', {
  data: z.object({ jar: z.string(), step: z.number() }),
  key: (data) => data.jar,
})

/** The code before has no such event. */
const noted = jar.event('noted', {
  data: z.object({ jar: z.string(), step: z.number() }),
  key: (data) => data.jar,
})

const input = z.object({ jar: z.string(), step: z.number() })

function add(tx: Tx): number {
  const n = (tx.get(counts)?.n ?? 0) + 2
  tx.put(counts, { n })
  return n
}

function walked(tx: Tx, step: number): string {
  add(tx)
  for (let x = 0; x < 10; x += step);
  return 'walked'
}

function filled(tx: Tx, step: number): number {
  const all: number[][] = []
  for (let n = 0; n < step; n++) all.push(new Array(1_000).fill(n))
  return all.length + add(tx)
}

const count = jar.request('count', {
  input: z.object({ jar: z.string() }),
  key: (input) => input.jar,
  derive(tx, { jar }) {
    // Some notes never end, or fill the heap.
    const step = { n0: 0, n2: 2 }[jar] ?? 1
    if (jar.startsWith('n')) tx.emit(noted, { jar: `of ${jar}`, step })
    return add(tx)
  },
})

const walk = jar.request('walk', {
  input,
  key: (input) => input.jar,
  // The third in a jar never ends, if this code counted them all.
  derive: (tx, { step }) => walked(tx, tx.get(counts)?.n === 4 ? 0 : step),
})

const send = jar.request('send', {
  input: z.object({ jar: z.string(), to: z.string(), step: z.number() }),
  key: (input) => input.jar,
  derive(tx, { to, step }) {
    tx.emit(sent, { jar: to, step })
    return add(tx)
  },
})

/** The code before ends for all of these. */
const name = jar.request('name', {
  input: z.object({ jar: z.string(), text: z.string() }),
  key: (input) => input.jar,
  derive: (tx, { text }) => (text === 'aaaa' ? filled(tx, 1e6) : walked(tx, text.startsWith('a') ? 0 : 1)),
})

/** Its key never ends with step 2. */
const find = jar.request('find', {
  input,
  key({ jar, step }) {
    for (let x = 0; x < 10; x += step % 2);
    return jar
  },
  derive: (tx) => add(tx),
})

/** Uses up the stack with many steps. */
const dive = jar.request('dive', {
  input,
  key: (input) => input.jar,
  derive(tx, { step }) {
    const down = (n: number): number => (n >= step ? n : 1 + down(n + 1))
    add(tx)
    return down(0)
  },
})

/** Uses up the heap with many steps. */
const fill = jar.request('fill', {
  input,
  key: (input) => input.jar,
  derive: (tx, { step }) => filled(tx, step),
})

export default app('poison', {
  requests: [count, walk, send, name, find, dive, fill],
  tables: [counts],
  reactions: [
    jar.on(sent, (tx, { step }) => void walked(tx, step)),
    jar.on(noted, (tx, { step }) => void (step === 2 ? filled(tx, 1e6) : walked(tx, step))),
  ],
})

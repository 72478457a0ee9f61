/** An app whose requests do not end, or end their process, for some inputs. */
import { app, effect, scopes, type Tx } from 'hence'
import { z } from 'zod'

const [jar] = scopes('jar')

const counts = jar.table('counts', { value: z.object({ n: z.int() }) })

const sent = jar.event('sent', {
  data: z.object({ jar: z.string(), step: z.number() }),
  key: (data) => data.jar,
})

const input = z.object({ jar: z.string(), step: z.number() })

function add(tx: Tx): number {
  const n = (tx.get(counts)?.n ?? 0) + 1
  tx.put(counts, { n })
  return n
}

const count = jar.request('count', {
  input: z.object({ jar: z.string() }),
  key: (input) => input.jar,
  derive: (tx) => add(tx),
})

/** Never ends with step 0. */
const walk = jar.request('walk', {
  input,
  key: (input) => input.jar,
  derive(tx, { step }) {
    add(tx)
    try {
      for (let x = 0; x < 10; x += step);
    } catch {
      return 'caught'
    }
    return 'walked'
  },
})

/** Its reaction never ends with step 0. */
const send = jar.request('send', {
  input: z.object({ jar: z.string(), to: z.string(), step: z.number() }),
  key: (input) => input.jar,
  derive(tx, { to, step }) {
    tx.emit(sent, { jar: to, step })
    return add(tx)
  },
})

/** Its schema backtracks for hours on text that ends with another letter. */
const name = jar.request('name', {
  input: z.object({ jar: z.string(), text: z.string().regex(/^(a+)+$/) }),
  key: (input) => input.jar,
  derive: (tx) => add(tx),
})

/** Its key takes for ever with step 0. */
const find = jar.request('find', {
  input,
  key({ jar, step }) {
    for (let x = 0; x < 10; x += step);
    return jar
  },
  derive: (tx) => add(tx),
})

/** Backtracks for hours on text that ends with another letter. */
const match = jar.request('match', {
  input: z.object({ jar: z.string(), text: z.string() }),
  key: (input) => input.jar,
  derive: (tx, { text }) => (/^(a+)+$/.test(text) ? add(tx) : 0),
})

/** Uses up the stack with many steps, and makes an outcome of how deep it goes. */
const sink = jar.request('sink', {
  input,
  key: (input) => input.jar,
  derive(tx, { step }) {
    let depth = 0
    const down = (n: number): void => {
      depth = n
      if (n < step) down(n + 1)
    }
    try {
      down(0)
    } catch {
      return depth
    }
    return depth + add(tx)
  },
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

/** Throws an error whose message never ends with step 0. */
const blame = jar.request('blame', {
  input,
  key: (input) => input.jar,
  derive(tx, { step }): number {
    add(tx)
    throw {
      get message() {
        for (let x = 0; x < 10; x += step);
        return 'none'
      },
    }
  },
})

const letter = effect('letter', { input: z.object({ to: z.string() }) })

const write = jar.request('write', {
  input: z.object({ jar: z.string() }),
  key: (input) => input.jar,
  derive(tx, { jar: to }) {
    tx.effect(letter, { to })
    return add(tx)
  },
})

/** Uses up the heap with many steps. */
const fill = jar.request('fill', {
  input,
  key: (input) => input.jar,
  derive(tx, { step }) {
    const all: number[][] = []
    for (let n = 0; n < step; n++) all.push(new Array(1_000).fill(n))
    return all.length + add(tx)
  },
})

/** The schema of its result backtracks for hours on text that ends with another letter. */
const copy = effect('copy', {
  input: z.object({ text: z.string() }),
  result: z.object({ text: z.string().regex(/^(a+)+$/) }),
})

const ask = jar.request('ask', {
  input: z.object({ jar: z.string(), text: z.string() }),
  key: (input) => input.jar,
  derive: (tx, { text }) => void tx.effect(copy, { text }),
})

const arrives = jar.on(sent, (tx, { step }) => {
  for (let x = 0; x < 10; x += step);
  add(tx)
})

export default app('poison', {
  requests: [count, walk, send, name, find, match, dive, blame, sink, fill, write, ask],
  tables: [counts],
  reactions: [arrives],
  effects: [letter, copy],
})

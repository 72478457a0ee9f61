import { type App, app, effect, reject, scopes } from 'hence'
import { z } from 'zod'

interface Style {
  readonly name: string
  /** The text of the letter, for all or for one; an empty one is not sent. */
  readonly text?: string
  readonly texts?: Readonly<Record<string, string>>
  /** Whether the text comes before the name in the letter. */
  readonly textFirst?: boolean
  /** Added to the key. */
  readonly suffix?: string
  /** The text of the letter that follows each correction. */
  readonly sorry?: string
}

/** An app that sends a letter for each request. */
export function greeter({
  name,
  text: all = 'hello',
  texts = {},
  textFirst = false,
  suffix = '',
  sorry,
}: Style) {
  const [customer] = scopes('customer')
  const letter = effect('letter', { input: z.object({ to: z.string(), text: z.string() }) })
  const greet = customer.request('greet', {
    input: z.object({ to: z.string() }),
    key: ({ to }) => to + suffix,
    derive(tx, { to }) {
      if (to === '') return reject('nobody')
      const text = texts[to] ?? all
      if (text !== '') tx.effect(letter, textFirst ? { text, to } : { to, text })
      return null
    },
  })
  const apologise = () =>
    customer.correct((tx) => void tx.effect(letter, { to: tx.key, text: `sorry: ${sorry}` }))
  const reactions = sorry === undefined ? [] : [apologise()]
  return app(name, { requests: [greet], tables: [], reactions, effects: [letter] }) as App
}

/** An app that sends a letter some time after each request. */
export function reminder(afterMs: number) {
  const [customer] = scopes('customer')
  const letter = effect('letter', { input: z.object({ to: z.string(), text: z.string() }) })
  const due = customer.event('due', { data: z.object({ to: z.string() }), key: ({ to }) => to })
  const remind = customer.request('remind', {
    input: z.object({ to: z.string() }),
    key: ({ to }) => to,
    derive: (tx, { to }) => tx.schedule(due, { to }, { at: tx.now + afterMs }) ?? null,
  })
  const isDue = customer.on(due, (tx, { to }) => tx.effect(letter, { to, text: 'it is time' }))
  return app('reminder', { requests: [remind], tables: [], reactions: [isDue], effects: [letter] }) as App
}

/** An app that takes money from accounts, and makes good what a promotion corrects. */
export function shop(fee: number) {
  const [account] = scopes('account')
  const rows = account.table('rows', { value: z.object({ cents: z.int() }) })
  const pay = account.request('pay', {
    input: z.object({ who: z.string(), cents: z.int() }),
    key: ({ who }) => who,
    derive(tx, { cents }) {
      const was = tx.get(rows)?.cents ?? 0
      const left = was - cents - fee
      tx.put(rows, { cents: left })
      return { left }
    },
  })
  const good = account.correct((tx, correction) => {
    if (correction.kind === 'outcome') tx.put(rows, { cents: (tx.get(rows)?.cents ?? 0) + 100 })
  })
  return app('shop', { requests: [pay], tables: [rows], reactions: [good] }) as App
}

/** An app that asks a question for each request, and keeps it with its answer. */
export function asker(question: string) {
  const [customer] = scopes('customer')
  const ask = effect('ask', { input: z.object({ text: z.string() }), result: z.string() })
  const answers = customer.table('answers', { value: z.object({ question: z.string(), answer: z.string() }) })
  const request = customer.request('request', {
    input: z.object({ who: z.string() }),
    key: ({ who }) => who,
    derive: (tx) => void tx.effect(ask, { text: question }),
  })
  const answered = customer.on(ask.result, (tx, { input, result }) => {
    tx.put(answers, { question: input.text, answer: result })
  })
  return app('asker', { requests: [request], tables: [answers], reactions: [answered], effects: [ask] })
}

export const texts = (sent: readonly string[]) => sent.map((each) => each.slice(each.indexOf(' ') + 1)).sort()

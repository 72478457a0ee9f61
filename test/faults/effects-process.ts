/**
 * An engine that takes orders from its parent process and delivers effects, until it is killed or asked to
 * close.
 */
import { createEngine, handlers } from 'hence'
import { email, webhook } from 'hence/effects'
import type overbooked from './overbooked.ts'

export type Order =
  | { readonly kind: 'place'; readonly order: string; readonly sku: string; readonly cents: number }
  /** Answered when nothing is left to deliver. */
  | { readonly kind: 'finish' }
  | { readonly kind: 'close' }

export type Told =
  | { readonly kind: 'ready' }
  | { readonly kind: 'taken'; readonly order: string }
  | {
      readonly kind: 'finished'
      readonly digest: string
      readonly orders: readonly {
        readonly key: readonly string[]
        readonly value: { readonly state: string }
      }[]
      readonly effects: readonly {
        readonly id: string
        readonly type: string
        readonly state: string
        readonly input: unknown
        readonly result?: unknown
        readonly endedAt?: number
      }[]
      readonly victims: number
    }

const [, , data, url, secret, mailUrl] = process.argv as string[]
const tell = (told: Told) => process.send!(told)

const delays = { delayMs: 10, delayMsMax: 100, triesMax: 1_000_000 }
const engine = await createEngine<typeof overbooked>({
  app: import.meta.resolve('./overbooked.ts'),
  data: data!,
  partitions: 3,
  checkpointRows: 60,
  report: () => {},
  handlers: handlers<typeof overbooked>({
    charge: {
      deliver: webhook({ url: url!, secret: secret!, allowAddresses: ['127.0.0.1'] }),
      timeoutMs: 150,
      ...delays,
    },
    apology: { deliver: email({ url: mailUrl!, from: 'shop@example.com' }), ...delays },
  }),
})

process.on('message', (order: Order) => void obey(order))
tell({ kind: 'ready' })

async function obey(message: Order): Promise<void> {
  if (message.kind === 'close') {
    await engine.close()
    process.disconnect?.()
  } else if (message.kind === 'place') {
    const { order, sku, cents } = message
    await engine.submit('place', { order, sku, cents }, { requestId: order })
    tell({ kind: 'taken', order })
  } else {
    await engine.idle()
    while ((await engine.effects.list({ limit: 1 })).length > 0)
      await new Promise((resolve) => setTimeout(resolve, 20))
    await engine.idle()
    const states = ['pending', 'done', 'dead'] as const
    const lists = await Promise.all(states.map((state) => engine.effects.list({ state, limit: 100_000 })))
    const effects = lists.flat()
    const victims = (await engine.violations.list({ limit: 100_000 })).reduce(
      (sum, each) => sum + each.counts.compensated + each.counts.released + each.counts.failed,
      0,
    )
    const orders = (await engine.scan('orders')) as never
    tell({ kind: 'finished', digest: await engine.digest(), orders, effects, victims })
  }
}

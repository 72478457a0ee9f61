/** The warehouse with real files: it takes requests from its parent process until the parent kills it. */
import { appendFileSync } from 'node:fs'
import { createEngine, HenceError, handlers, systemClock } from 'hence'
import type { Warehouse } from '../../examples/warehouse/warehouse.ts'
import { openDirectory } from '../../src/storage/storage.ts'

export type ToWarehouse =
  | { readonly kind: 'submit'; readonly id: string; readonly type: string; readonly input: object }
  | { readonly kind: 'look' }
  | { readonly kind: 'close' }
export type FromWarehouse =
  | { readonly kind: 'ready' }
  | { readonly kind: 'reply'; readonly id: string; readonly status: string }
  | { readonly kind: 'error'; readonly id: string; readonly text: string }
  | { readonly kind: 'seen'; readonly states: Readonly<Record<string, string>>; readonly digest: string }

const [directory, partitions, app, sent] = process.argv.slice(2) as [string, string, string, string]
const send = (message: FromWarehouse) => process.send!(message)
const write = (id: string, what: string) => appendFileSync(sent, `${id} ${what}\n`)

const engine = await createEngine<Warehouse>({
  app,
  data: await openDirectory({
    directory,
    partitions: Number(partitions),
    clock: systemClock,
    report: () => {},
    segmentBytes: 16 * 1024,
  }),
  checkpointRows: 60,
  handlers: handlers<Warehouse>({
    apology: ({ id, input }) => write(id, `apology ${input.order}`),
    delay: ({ id, input }) => write(id, `delay ${input.order} ${input.percent}`),
    supply: ({ id, input }) => write(id, `supply ${input.sku} ${input.units}`),
  }),
  report: ({ level, message }) => level === 'alarm' && send({ kind: 'error', id: 'alarm', text: message }),
})

process.on('message', (message: ToWarehouse) => void obey(message))
send({ kind: 'ready' })

async function obey(message: ToWarehouse): Promise<void> {
  if (message.kind === 'close') {
    await engine.close()
    process.disconnect?.()
  } else if (message.kind === 'look') {
    await engine.idle()
    const orders = await engine.scan('orders', { limit: 10_000 })
    const states = Object.fromEntries(orders.map(({ key, value }) => [key[0], value.state]))
    send({ kind: 'seen', states, digest: await engine.digest() })
  } else {
    const { id, type, input } = message
    try {
      const { status } = await engine.submit(type as never, input as never, { requestId: id })
      send({ kind: 'reply', id, status })
    } catch (error) {
      const text = error instanceof HenceError ? `${error.code}: ${error.message}` : `${error}`
      send({ kind: 'error', id, text })
    }
  }
}

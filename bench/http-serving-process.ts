/** Serves the bench's app, or Hono's "hello" with the default settings of Hono's adapter. Reports its port. */
import type { AddressInfo } from 'node:net'
import { serve } from '@hono/node-server'
import { createEngine } from 'hence'
import { server } from 'hence/server'
import { Hono } from 'hono'
import type app from './app.ts'
import { reportToParent } from './parent.ts'
import { answerProcessorTime } from './processor.ts'

export interface Serves {
  readonly port: number
}

answerProcessorTime()
const [what, data] = process.argv.slice(2)
if (what === 'hello') {
  const hello = new Hono().get('/', (context) => context.text('Hello'))
  serve({ fetch: hello.fetch, port: 0, hostname: '127.0.0.1' }, ({ port }: AddressInfo) =>
    reportToParent({ port }),
  )
} else {
  const engine = await createEngine<typeof app>({ app: import.meta.resolve('./app.ts'), data: data! })
  const web = server(engine, { open: true })
  const { port } = await web.listen()
  reportToParent({ port })
}

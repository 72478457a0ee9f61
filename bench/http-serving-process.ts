/**
 * Serves the bench's app, Hono's "hello" with the default settings of Hono's adapter, or `node:http` alone,
 * which reads the body of a POST, parses it, and answers with a part of it. Reports its port.
 */
import { createServer } from 'node:http'
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
} else if (what === 'parse') {
  const parse = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const { cents } = JSON.parse(Buffer.concat(chunks).toString())
      const body = JSON.stringify({ cents })
      const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }
      response.writeHead(200, headers).end(body)
    })
  })
  parse.listen(0, '127.0.0.1', () => reportToParent({ port: (parse.address() as AddressInfo).port }))
} else {
  const engine = await createEngine<typeof app>({ app: import.meta.resolve('./app.ts'), data: data! })
  const web = server(engine, { open: true })
  const { port } = await web.listen()
  reportToParent({ port })
}

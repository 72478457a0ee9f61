/** The server of test/server in a separate process, so that its memory can be measured. */
import { createEngine } from 'hence'
import { server } from 'hence/server'
import { memoryStorage } from 'hence/testing'
import { callers, notes } from '../server/serve.ts'

const reports: unknown[] = []
const engine = await createEngine({ app: notes, data: memoryStorage(), report: (told) => reports.push(told) })
const web = server(engine, {
  authenticate: (request) => {
    const name = /^Test (\w+)$/.exec(request.headers.get('authorization') ?? '')?.[1] ?? ''
    return (
      callers[name] ??
      (/^u\d+$/.test(name) ? { principal: name, permissions: ['submit', 'read'] } : undefined)
    )
  },
  limits: JSON.parse(process.argv[2] ?? '{}'),
  report: (told) => reports.push(told),
})
const { port } = await web.listen()
process.on('message', (asked) => {
  if (asked === 'inspect') {
    globalThis.gc?.()
    process.send!({ residentBytes: process.memoryUsage.rss(), reports: reports.splice(0) })
  } else {
    void web.close().then(async () => {
      await engine.close()
      process.disconnect?.()
    })
  }
})
process.send!({ port })

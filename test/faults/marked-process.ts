/** An engine under load with a sink. It promotes its two generations in turn until it is killed. */
import { once } from 'node:events'
import { postgresSink } from 'hence/postgres'
import { v7 } from 'uuid'
import { openMarked, versions } from './marked-engine.ts'

const [, , data, connectionText] = process.argv as string[]
const engine = await openMarked(data!)
const options = { connection: JSON.parse(connectionText!), tables: ['boxes', 'shelves'], schema: 'mirror' }
const sink = postgresSink({ engine, ...options, name: 'marked', report: () => {} } as never)
process.send!('ready')

const lanes = Array.from({ length: 4 }, async (_, lane) => {
  for (let i = 0; ; i++) {
    const input = { box: `b${(i * 7 + lane) % 40}`, shelf: `s${i % 9}`, n: 1 + (i % 5) }
    await engine.submit('put', input as never, { requestId: v7() })
    // Let others run.
    await new Promise(setImmediate)
  }
})
const turns = (async () => {
  const { reprocessing } = engine
  if ((await reprocessing.status()) === undefined) {
    const other = versions.find(({ hash }) => hash !== engine.stats().version)!
    await reprocessing.start({ app: other })
  }
  for (;;) {
    const { sha256: diff } = await reprocessing.diff()
    await reprocessing.promote({ diff }, { requestId: v7() })
    await sink.caughtUp()
    const told = once(process, 'message')
    process.send!(engine.app.name)
    await told
  }
})()
await Promise.all([...lanes, turns])

/** An engine with its server in a separate process, which a test kills. */
import { postgresLog } from 'hence/postgres'
import { server } from 'hence/server'
import { openTill } from './till-engine.ts'

const [, , directory, port, log] = process.argv

const engine = await openTill(directory!, log === undefined ? undefined : postgresLog(JSON.parse(log)))
const web = server(engine, { open: true, report: () => {} })
const { port: listening } = await web.listen({ port: Number(port) })
process.send!({ port: listening })
process.on('message', async () => {
  await web.close()
  await engine.close()
  process.disconnect?.()
})

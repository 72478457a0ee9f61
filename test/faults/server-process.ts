/** An engine with its server in a separate process, which a test kills. */
import { createEngine, systemClock } from 'hence'
import { server } from 'hence/server'
import { openDirectory } from '../../src/storage/storage.ts'
import type app from './till.ts'

const [, , directory, port] = process.argv

const engine = await createEngine<typeof app>({
  app: import.meta.resolve('./till.ts'),
  // Small segments and few rows a checkpoint, so that both change often and a kill hits them.
  data: await openDirectory({
    directory: directory!,
    partitions: 3,
    clock: systemClock,
    report: () => {},
    segmentBytes: 16 * 1024,
  }),
  checkpointRows: 60,
  report: () => {},
})
const web = server(engine, { open: true, report: () => {} })
const { port: listening } = await web.listen({ port: Number(port) })
process.send!({ port: listening })
process.on('message', async () => {
  await web.close()
  await engine.close()
  process.disconnect?.()
})

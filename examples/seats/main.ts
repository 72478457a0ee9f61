import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Command } from 'commander'
import { createEngine, HenceError } from 'hence'
import type seats from './seats.ts'
import { openSite } from './site.ts'

const command = new Command('npm run seats --')
  .description('The seats of a flight on Hence, with a page to book them on.')
  .option('--data <directory>', 'where the log and the tables are', 'data/seats')
  .option('--port <number>', 'where to listen; 0: any free port', '4365')
  .addHelpText(
    'after',
    `
Open the page, hold a seat, go offline, book it, reload, come back: it is booked once. A second browser, or a private
window, is another passenger.

Stop it whenever you like, by Ctrl-C or by kill -9, and start it again: the pages go on by themselves.`,
  )
  .showHelpAfterError('(--help shows the options)')
  .parse()
const options: { data: string; port: string } = command.opts()

try {
  await run()
} catch (error) {
  // The messages of Hence are for users; other errors show their stack.
  console.error(error instanceof HenceError ? `${error.code}: ${error.message}` : error)
  process.exitCode = 1
}

async function run(): Promise<void> {
  const stopped = Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
  const engine = await createEngine<typeof seats>({
    app: import.meta.resolve('./seats.ts'),
    data: options.data,
  })
  try {
    const site = await openSite(engine)
    const web = createServer(site.listener).listen(Number(options.port), '127.0.0.1')
    try {
      await once(web, 'listening')
      const { port } = web.address() as AddressInfo
      console.log(`The seats are at http://localhost:${port}. Press Ctrl-C to stop.`)
      await stopped
    } finally {
      await site.close()
      web.close()
      web.closeAllConnections()
    }
  } finally {
    await engine.close()
  }
}

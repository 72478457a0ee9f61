import { once } from 'node:events'
import { setTimeout as pause } from 'node:timers/promises'
import { Command } from 'commander'
import { createEngine, HenceError } from 'hence'
import { server } from 'hence/server'
import type { Airline } from './airline.ts'
import { fly } from './traffic.ts'

const command = new Command('npm run airline --')
  .description('The airline on Hence with made-up passengers, served with its console.')
  .option('--data <directory>', 'where the log and the tables are', 'data/airline')
  .option('--port <number>', 'where to listen; 0: any free port', '4364')
  .option('--per-second <number>', 'how many requests a second, about', '5')
  .showHelpAfterError('(--help shows the options)')
  .parse()
const options: { data: string; port: string; perSecond: string } = command.opts()

try {
  await run()
} catch (error) {
  console.error(error instanceof HenceError ? `${error.code}: ${error.message}` : error)
  process.exitCode = 1
}

async function run(): Promise<void> {
  const stop = new AbortController()
  const stopped = Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
  void stopped.then(() => stop.abort())
  const engine = await createEngine<Airline>({
    app: import.meta.resolve('./reviewed.ts'),
    data: options.data,
    partitions: 4,
    audit: true,
    handlers: { rebook: otherFlight, pay: { deliver: unreliable, triesMax: 3 } },
  })
  try {
    const web = server(engine, { open: true, report: () => {} })
    const { url } = await web.listen({ port: Number(options.port) })
    console.log(`The console is at ${url}/console. Press Ctrl-C to stop.`)
    const ms = 1_000 / Number(options.perSecond)
    const before = async () => {
      stop.signal.throwIfAborted()
      await pause(ms * 2 * Math.random(), undefined, { signal: stop.signal })
    }
    const flying = (async () => {
      // Each start is another day, with names of its own.
      for (let day = Date.now(); ; day++) {
        await fly(engine, { name: day.toString(36).slice(-4), flights: 12, random: Math.random, before })
      }
    })().catch((error) => {
      if (!stop.signal.aborted) throw error
    })
    await Promise.race([stopped, flying])
    await web.close()
    await flying
  } finally {
    await engine.close()
  }
}

function otherFlight({ input: { flight } }: { input: { flight: string } }): { flight: string } {
  if (flight.endsWith('-last')) {
    throw new HenceError('no-other-flight', 'change', `There is no flight after ${flight}.`)
  }
  return { flight: `${flight}-next` }
}

/** The bank is often busy, so some payments are given up and wait for somebody to send them again. */
function unreliable(): void {
  if (Math.random() < 0.6) throw new Error('the bank answered 503')
}

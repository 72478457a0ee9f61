import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createEngine } from 'hence'
import { connect } from 'hence/client'
import { migratePostgresLog, postgresLog } from 'hence/postgres'
import { freePort } from '../test/free-port.ts'
import { Running } from '../test/hence-process.ts'
import { type Cluster, logAddress } from '../test/postgres-cluster.ts'
import type app from './app.ts'
import { drive, summary } from './drive.ts'
import { type Payment, payments } from './payment.ts'
import { clusterIn } from './postgres.ts'
import { type Bench, median, type Result, settled } from './result.ts'

const appPath = fileURLToPath(import.meta.resolve('./app.ts'))

/**
 * The log in PostgreSQL, on the same disk: `engine.submit`, and how long nobody answers when a standby takes
 * over. The database's own processor time is not counted.
 */
export async function carriers(bench: Bench): Promise<Result[]> {
  const { directory, sized, progress } = bench
  const cluster = await clusterIn(join(directory, 'carriers'), 'the log in PostgreSQL', bench)
  if (cluster === undefined) return []
  try {
    const { connection } = cluster
    await migratePostgresLog({ connection })
    const log = postgresLog({ connection, log: 'bench' })
    const engine = await createEngine<typeof app>({ app: appPath, data: join(directory, 'copy'), log })
    const send = ({ input, requestId }: Payment) => engine.submit('pay', input, { requestId })
    const results: Result[] = []
    let made = 0
    try {
      for (const inFlight of [1, 64, 1_024]) {
        const count = inFlight * sized(inFlight === 1 ? 1_000 : 200, inFlight === 1 ? 300 : 30, 2)
        const runs = []
        for (let i = 0; i <= sized(3, 2, 0); i++) {
          const wishes = payments(made, count)
          made += count
          const run = await drive(inFlight, count, (n) => send(wishes[n]!))
          await settled(sized)
          if (i > 0 || sized(false, false, true)) runs.push(run)
        }
        progress(`carriers: PostgreSQL, ${inFlight} in flight`)
        results.push({ ...summary(runs), what: `engine.submit, log in PostgreSQL, ${inFlight} in flight` })
      }
    } finally {
      await engine.close()
    }
    return [...results, ...(await takeOvers(directory, cluster, { sized, progress }))]
  } finally {
    await cluster.stop()
  }
}

/** Two processes on one log; the one that is active is ended again and again. */
async function takeOvers(
  directory: string,
  cluster: Cluster,
  { sized, progress }: Pick<Bench, 'sized' | 'progress'>,
): Promise<Result[]> {
  const log = logAddress(cluster)
  const ports = [await freePort(), await freePort()]
  const start = async (index: number): Promise<Running> => {
    const place = ['--data', join(directory, `machine-${index}`), '--log', log, '--port', `${ports[index]}`]
    return new Running(['start', appPath, ...place, '--open', '--json'])
  }
  const running = [await start(0)]
  await running[0]!.line(/"listening"/)
  const hence = connect<typeof app>(ports.map((port) => `http://127.0.0.1:${port}`))
  let made = 1_000_000_000
  const answered = async () => {
    const [{ input, requestId }] = payments(made++, 1) as [Payment]
    await hence.submit('pay', input, { requestId })
  }
  const results: Result[] = []
  let active = 0
  try {
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      const times: number[] = []
      for (let i = 0; i < sized(5, 2, 1); i++) {
        const other = 1 - active
        running[other] = await start(other)
        await running[other].error(/Following/)
        for (let n = 0; n < sized(200, 50, 5); n++) await answered()
        await running[active]!.stop(signal)
        const at = performance.now()
        await answered()
        times.push(performance.now() - at)
        active = other
      }
      progress(`carriers: a standby takes over after ${signal}`)
      const note = signal === 'SIGKILL' ? 'two seconds of it are patience' : 'from the exit of the process'
      results.push({ what: `no answer, ${signal}, warm standby`, figure: median(times), unit: 'ms', note })
    }
  } finally {
    await hence.close()
    for (const each of running) await each.stop('SIGKILL')
  }
  return results
}

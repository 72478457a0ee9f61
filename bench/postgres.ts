import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Client } from 'pg'
import { type Cluster, NoPostgres, startCluster } from '../test/postgres-cluster.ts'
import { BareLoop } from './bare-loop.ts'
import { drive, type Run, summary } from './drive.ts'
import { type Payment, payments } from './payment.ts'
import { processorMicrosOf } from './processor.ts'
import { type Bench, median, type Result } from './result.ts'
import { driveBare } from './submit.ts'

/**
 * A hand-written PostgreSQL transaction that is safe to retry, with an idempotency table. Processor time is
 * that of the client and of the server's processes for its connections.
 */
export async function postgres({ directory, sized, progress }: Bench): Promise<Result[]> {
  const data = join(directory, 'postgres')
  await mkdir(data)
  let cluster: Cluster
  try {
    cluster = await startCluster(data)
  } catch (error) {
    if (!(error instanceof NoPostgres)) throw error
    progress(`postgres: left out: ${error.message}`)
    return []
  }
  const bare = await BareLoop.open(data)
  const results: Result[] = []
  let made = 0
  try {
    await makeTables(cluster)
    for (const connections of [1, 64]) {
      const rounds = sized(5, 2, 1)
      const count = connections === 1 ? sized(1_000, 500, 20) : sized(4_000, 2_000, 200)
      const clients = await connect(cluster, connections)
      const done = []
      for (let i = 0; i <= rounds; i++) {
        const wishes = payments(made, count)
        made += count
        const floor = await driveBare(bare, connections, wishes)
        const theirs = await driveClients(clients, wishes)
        const ratio = theirs.perSecond / floor.perSecond
        progress(
          `postgres: ${connections} connections, ${i === 0 ? 'warming up' : `round ${i} of ${rounds}`}: ` +
            `bare loop ${Math.round(floor.perSecond)}/s, PostgreSQL ${Math.round(theirs.perSecond)}/s`,
        )
        if (i > 0) done.push({ theirs, ratio })
      }
      for (const client of clients) await client.end()
      results.push({
        ...summary(done.map(({ theirs }) => theirs)),
        what: `PostgreSQL, ${connections} connection${connections > 1 ? 's' : ''}`,
        ratio: median(done.map(({ ratio }) => ratio)),
        note: `PostgreSQL ${cluster.version}, a transaction with an idempotency table`,
      })
    }
  } finally {
    await bare.close()
    await cluster.stop()
  }
  return results
}

async function makeTables(cluster: Cluster): Promise<void> {
  const [client] = await connect(cluster, 1)
  await client!.query(`
    CREATE TABLE requests (id uuid PRIMARY KEY, input text NOT NULL, outcome text);
    CREATE TABLE accounts (id int PRIMARY KEY, cents bigint NOT NULL, payments int NOT NULL);
    CREATE TABLE categories (account int, name text, cents bigint NOT NULL, payments int NOT NULL,
      PRIMARY KEY (account, name));
  `)
  await client!.end()
}

async function connect({ connection }: Cluster, count: number): Promise<Client[]> {
  const clients = Array.from({ length: count }, () => new Client(connection))
  for (const client of clients) await client.connect()
  return clients
}

async function driveClients(clients: readonly Client[], wishes: readonly Payment[]): Promise<Run> {
  const free = [...clients]
  const before = serverMicros(clients)
  const run = await drive(clients.length, wishes.length, async (i) => {
    const client = free.pop()!
    await pay(client, wishes[i]!)
    free.push(client)
  })
  const server = (serverMicros(clients) - before) / wishes.length
  const processorMicros = Number.isNaN(server) ? undefined : run.processorMicros! + server
  return { ...run, processorMicros }
}

/** Processor time of the server's processes for these connections; NaN on systems other than Linux. */
function serverMicros(clients: readonly Client[]): number {
  const pids = clients.map((client) => (client as unknown as { processID: number }).processID)
  return pids.reduce((sum, pid) => sum + (processorMicrosOf(pid) ?? Number.NaN), 0)
}

const statements = {
  take: 'INSERT INTO requests (id, input) VALUES ($1, $2) ON CONFLICT DO NOTHING',
  first: 'SELECT outcome FROM requests WHERE id = $1',
  account: 'SELECT cents, payments FROM accounts WHERE id = $1 FOR UPDATE',
  category: 'SELECT cents, payments FROM categories WHERE account = $1 AND name = $2 FOR UPDATE',
  putAccount: `INSERT INTO accounts VALUES ($1, $2, $3)
    ON CONFLICT (id) DO UPDATE SET cents = excluded.cents, payments = excluded.payments`,
  putCategory: `INSERT INTO categories VALUES ($1, $2, $3, $4)
    ON CONFLICT (account, name) DO UPDATE SET cents = excluded.cents, payments = excluded.payments`,
  decide: 'UPDATE requests SET outcome = $2 WHERE id = $1',
}

/** The same work as the app's: store the request, read and write two rows, store the outcome. */
async function pay(client: Client, { requestId, account, input }: Payment): Promise<string> {
  const run = (name: keyof typeof statements, ...values: unknown[]) =>
    client.query({ name, text: statements[name], values })
  await client.query('BEGIN')
  const { rowCount } = await run('take', requestId, JSON.stringify(input))
  let outcome: string
  if (rowCount === 0) {
    outcome = (await run('first', requestId)).rows[0].outcome
  } else {
    const { category, cents } = input
    const all = (await run('account', account)).rows[0] ?? { cents: 0, payments: 0 }
    const some = (await run('category', account, category)).rows[0] ?? { cents: 0, payments: 0 }
    await run('putAccount', account, Number(all.cents) + cents, all.payments + 1)
    await run('putCategory', account, category, Number(some.cents) + cents, some.payments + 1)
    outcome = JSON.stringify({ payments: all.payments + 1 })
    await run('decide', requestId, outcome)
  }
  await client.query('COMMIT')
  return outcome
}

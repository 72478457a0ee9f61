import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Client } from 'pg'
import { type Cluster, NoPostgres, startCluster } from '../test/postgres-cluster.ts'
import { BareLoop } from './bare-loop.ts'
import { drive, type Run, summary } from './drive.ts'
import { accountCount, type Payment, payments } from './payment.ts'
import { processorMicrosOf } from './processor.ts'
import { type Bench, median, type Result } from './result.ts'
import { driveBare } from './submit.ts'
import { type Transfer, transfers } from './transfer.ts'

const batchMax = 64
const batchConnections = 2

/** Starts a PostgreSQL in a new folder; undefined where none can run, which is then said of this part. */
export async function clusterIn(
  folder: string,
  part: string,
  { skip }: Pick<Bench, 'skip'>,
): Promise<Cluster | undefined> {
  await mkdir(folder)
  try {
    return await startCluster(folder)
  } catch (error) {
    if (!(error instanceof NoPostgres)) throw error
    skip(part, error.message)
    return undefined
  }
}

/**
 * Two ways with PostgreSQL that are safe to retry, both with an idempotency table: a hand-written transaction
 * for each request, and a stored procedure that takes as many requests as have gathered, at most 64, in one
 * transaction. Processor time is that of the client and of the server's processes for its connections.
 */
export async function postgres(bench: Bench): Promise<Result[]> {
  const { directory, sized, progress } = bench
  const data = join(directory, 'postgres')
  const cluster = await clusterIn(data, 'PostgreSQL', bench)
  if (cluster === undefined) return []
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
        what: `PostgreSQL by hand, ${connections} connection${connections > 1 ? 's' : ''}`,
        ratio: median(done.map(({ ratio }) => ratio)),
        note: `PostgreSQL ${cluster.version}, a transaction with an idempotency table`,
      })
    }
    const inFlight = 1_024
    const clients = await connect(cluster, batchConnections)
    const procedure = async <T>(
      count: number,
      made: readonly T[],
      call: (client: Client, some: readonly T[]) => Promise<unknown>,
    ) => {
      const gathering = new Gathering(clients, call)
      return withServer(clients, count, () => drive(inFlight, count, (i) => gathering.send(made[i]!)))
    }
    const rounds = sized(5, 2, 1)
    const count = sized(40_000, 10_000, 1_000)
    const ratios: number[] = []
    const runs: Run[] = []
    for (let i = 0; i <= rounds; i++) {
      const wishes = payments(made, count)
      made += count
      const floor = await driveBare(bare, inFlight, wishes)
      const run = await procedure(count, wishes, payAll)
      progress(`postgres: procedure, round ${i} of ${rounds}: ${Math.round(run.perSecond)}/s`)
      if (i === 0) continue
      runs.push(run)
      ratios.push(run.perSecond / floor.perSecond)
    }
    const how = `${batchMax} a transaction`
    const note = `at most ${how}, on ${batchConnections} connections, ${inFlight.toLocaleString('en-US')} in flight`
    results.push({
      ...summary(runs),
      what: `PostgreSQL by a stored procedure, ${how}`,
      ratio: median(ratios),
      note,
    })
    for (const hot of [false, true]) {
      const moved: Run[] = []
      for (let i = 0; i <= rounds; i++) {
        const run = await procedure(count, transfers(count, hot), moveAll)
        if (i > 0) moved.push(run)
      }
      progress(`postgres: transfers${hot ? ' from a hot account' : ''}`)
      const between = hot ? 'from a hot account' : 'between any accounts'
      results.push({ ...summary(moved), what: `transfers ${between}: PostgreSQL, ${how}`, note })
    }
    for (const client of clients) await client.end()
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
    CREATE TABLE transfers (id uuid PRIMARY KEY, payer int, payee int, cents bigint);
    CREATE TABLE balances (id int PRIMARY KEY, cents bigint NOT NULL);
    ${procedures}
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
  return withServer(clients, wishes.length, () =>
    drive(clients.length, wishes.length, async (i) => {
      const client = free.pop()!
      await pay(client, wishes[i]!)
      free.push(client)
    }),
  )
}

/** Adds the processor time of the server to that of a run, and leaves out that of this thread alone. */
async function withServer(clients: readonly Client[], count: number, act: () => Promise<Run>): Promise<Run> {
  const before = serverMicros(clients)
  const { threadMicros: _, ...run } = await act()
  const server = (serverMicros(clients) - before) / count
  const processorMicros = Number.isNaN(server) ? undefined : run.processorMicros! + server
  return { ...run, processorMicros }
}

/** Group commit in the client: a connection that is free takes what has gathered. */
class Gathering<T> {
  readonly #free: Client[]
  readonly #call: (client: Client, some: readonly T[]) => Promise<unknown>
  #waiting: { readonly what: T; readonly done: () => void; readonly fail: (error: unknown) => void }[] = []

  constructor(clients: readonly Client[], call: (client: Client, some: readonly T[]) => Promise<unknown>) {
    this.#free = [...clients]
    this.#call = call
  }

  send(what: T): Promise<void> {
    return new Promise((done, fail) => {
      this.#waiting.push({ what, done, fail })
      queueMicrotask(() => this.#take())
    })
  }

  #take(): void {
    while (this.#waiting.length > 0) {
      const client = this.#free.pop()
      if (client === undefined) return
      const some = this.#waiting.splice(0, batchMax)
      void this.#call(
        client,
        some.map(({ what }) => what),
      ).then(
        () => {
          this.#free.push(client)
          for (const { done } of some) done()
          this.#take()
        },
        (error) => {
          for (const { fail } of some) fail(error)
        },
      )
    }
  }
}

/** Rows are locked in the order of accounts, so that two transactions never wait for each other. */
const procedures = `
  CREATE FUNCTION pay_all(ids uuid[], inputs text[], payers int[], names text[], amounts bigint[])
  RETURNS void LANGUAGE plpgsql AS $$
  DECLARE paid int;
  BEGIN
    FOR i IN 1 .. cardinality(ids) LOOP
      INSERT INTO requests (id, input) VALUES (ids[i], inputs[i]) ON CONFLICT DO NOTHING;
      CONTINUE WHEN NOT FOUND;
      INSERT INTO accounts AS a VALUES (payers[i], amounts[i], 1) ON CONFLICT (id)
        DO UPDATE SET cents = a.cents + excluded.cents, payments = a.payments + 1 RETURNING payments INTO paid;
      INSERT INTO categories AS c VALUES (payers[i], names[i], amounts[i], 1) ON CONFLICT (account, name)
        DO UPDATE SET cents = c.cents + excluded.cents, payments = c.payments + 1;
      UPDATE requests SET outcome = json_build_object('payments', paid) WHERE id = ids[i];
    END LOOP;
  END $$;
  CREATE FUNCTION move_all(ids uuid[], payers int[], payees int[], amounts bigint[])
  RETURNS void LANGUAGE plpgsql AS $$
  BEGIN
    PERFORM FROM balances WHERE id = ANY (payers || payees) ORDER BY id FOR UPDATE;
    FOR i IN 1 .. cardinality(ids) LOOP
      INSERT INTO transfers VALUES (ids[i], payers[i], payees[i], amounts[i]) ON CONFLICT DO NOTHING;
      CONTINUE WHEN NOT FOUND;
      UPDATE balances SET cents = cents - amounts[i] WHERE id = payers[i];
      UPDATE balances SET cents = cents + amounts[i] WHERE id = payees[i];
    END LOOP;
  END $$;
  INSERT INTO balances SELECT id, 1e12 FROM generate_series(0, ${accountCount - 1}) AS id;`

function payAll(client: Client, some: readonly Payment[]): Promise<unknown> {
  const sorted = some.toSorted((a, b) => a.account - b.account || a.category - b.category)
  return client.query({
    name: 'pay_all',
    text: 'SELECT pay_all($1, $2, $3, $4, $5)',
    values: [
      sorted.map(({ requestId }) => requestId),
      sorted.map(({ input }) => JSON.stringify(input)),
      sorted.map(({ account }) => account),
      sorted.map(({ input }) => input.category),
      sorted.map(({ input }) => input.cents),
    ],
  })
}

function moveAll(client: Client, some: readonly Transfer[]): Promise<unknown> {
  return client.query({
    name: 'move_all',
    text: 'SELECT move_all($1, $2, $3, $4)',
    values: [
      some.map(({ requestId }) => requestId),
      some.map(({ from }) => from),
      some.map(({ to }) => to),
      some.map(({ cents }) => cents),
    ],
  })
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

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { migratePostgresLog, postgresLog } from 'hence/postgres'
import { type CarrierConformance, carrierConformance, carrierDuel, carrierFailover } from 'hence/testing'
import { Client } from 'pg'
import { crashAt } from '../crash-points.ts'
import { type Cluster, NoPostgres, startCluster } from '../postgres-cluster.ts'
import { randomFrom } from '../random.ts'
import { processDuel } from './duel-processes.ts'

// Real processes duel for one log in a real PostgreSQL.

const directory = await mkdtemp(join(tmpdir(), 'hence-postgres-duel-'))
const cluster: Cluster | NoPostgres = await startCluster(directory).catch((error) => {
  if (error instanceof NoPostgres) return error
  throw error
})
test.after(async () => {
  if (!(cluster instanceof NoPostgres)) await cluster.stop()
  await rm(directory, { recursive: true, force: true })
})

if (cluster instanceof NoPostgres) test('a duel in PostgreSQL', { skip: cluster.message }, () => {})
else {
  const { connection } = cluster
  await migratePostgresLog({ connection })

  let places = 0
  const made: CarrierConformance = {
    newPlace: async () => `place-${++places}`,
    open: async (log) => postgresLog({ connection, log }),
  }
  for (const suite of [carrierConformance, carrierDuel, carrierFailover])
    suite('the carrier in PostgreSQL', made)

  test(crashAt('PostgreSQL transaction', 'processes that duel for a log agree about all of it'), {
    timeout: 120_000,
  }, async () => {
    const home = await mkdtemp(join(tmpdir(), 'hence-duel-'))
    const client = new Client(connection)
    await client.connect()
    let cutting: Promise<void> | undefined
    const cut = 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()'
    const figures = await processDuel({
      ...{ directory: home, random: randomFrom(Date.now()), faults: 30, acknowledged: 500 },
      carriers: Array.from({ length: 3 }, () => ({ postgres: { connection, log: 'duel' } })),
      fault: () => {
        cutting = client.query(`${cut} AND backend_type = 'client backend'`).then(() => {})
      },
      settled: () => cutting,
    })
    await client.end()
    await rm(home, { recursive: true })
    for (const each of ['claims', 'taken', 'stops', 'kills'] as const) assert.ok(figures[each]! > 0, each)
  })
}

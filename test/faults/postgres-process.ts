/** An engine between an outbox and a sink, both in PostgreSQL. It runs until it is killed. */
import { createEngine } from 'hence'
import { postgresOutbox, postgresSink } from 'hence/postgres'
import type till from './till.ts'

const [, , data, connectionText] = process.argv as string[]
const connection = JSON.parse(connectionText!)
const quiet = { report: () => {} }

const engine = await createEngine<typeof till>({
  app: import.meta.resolve('./till.ts'),
  data: data!,
  partitions: 3,
  checkpointRows: 60,
  ...quiet,
})
postgresOutbox({ engine, connection, ...quiet })
postgresSink({ engine, connection, tables: ['tills', 'towns'], schema: 'mirror', ...quiet })
process.send!('ready')

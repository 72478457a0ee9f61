/** An engine with a source in PostgreSQL. It runs until it is killed. */
import { createEngine } from 'hence'
import { postgresSource } from 'hence/postgres'
import { sourceOptions } from './source-options.ts'

const [, , data, connectionText] = process.argv as string[]
const quiet = { report: () => {} }
const app = await sourceOptions.app()
const engine = await createEngine({ app, data: data!, partitions: 3, checkpointRows: 30, ...quiet })
postgresSource({ engine, connection: JSON.parse(connectionText!), ...sourceOptions.source, ...quiet })
process.send!('ready')

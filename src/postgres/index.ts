/**
 * `hence/postgres`: the log in PostgreSQL, a sink that mirrors tables into it, an outbox that takes requests
 * from it, and a source that makes requests of rows of others.
 */

export {
  migratePostgresLog,
  type PostgresLogOptions,
  postgresLog,
  postgresLogSql,
} from './log.ts'
export {
  type PostgresOutbox,
  type PostgresOutboxOptions,
  postgresOutbox,
  postgresOutboxSql,
} from './outbox.ts'
export {
  type PostgresSink,
  type PostgresSinkOptions,
  type PostgresSinkStats,
  postgresSink,
} from './sink.ts'
export { type PostgresSourceOptions, postgresSource, type SourceRow } from './source.ts'

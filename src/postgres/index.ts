/**
 * `hence/postgres`: the log in PostgreSQL, a sink that mirrors tables into it, and an outbox that takes
 * requests from it.
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

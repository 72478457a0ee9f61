/** `hence/postgres`: a sink that mirrors tables into PostgreSQL, and an outbox that takes requests from it. */

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

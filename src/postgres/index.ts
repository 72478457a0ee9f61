/** Ways between an engine and PostgreSQL: `hence/postgres`. */

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

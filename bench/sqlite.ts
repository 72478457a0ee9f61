import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { drive, type Run, summary } from './drive.ts'
import { type Payment, payments } from './payment.ts'
import type { Bench, Result } from './result.ts'
import { type Transfer, transfers } from './transfer.ts'

/** SQLite as a library in this process, durable like the log: `synchronous = FULL` on a write-ahead log. */
export async function sqlite({ directory, sized, progress }: Bench): Promise<Result[]> {
  await mkdir(join(directory, 'sqlite'))
  const database = new Database(join(directory, 'sqlite/bench.db'))
  const rounds = sized(5, 2, 1)
  const results: Result[] = []
  try {
    for (const size of [1, 64]) {
      const runs = []
      for (let round = 0; round <= rounds; round++) {
        const wishes = payments(
          round * 100_000,
          size === 1 ? sized(4_000, 1_000, 50) : sized(64_000, 6_400, 640),
        )
        const run = await inBatches(size, wishes, (batch) => database.payAll(batch))
        progress(`sqlite: payments, ${size} a transaction, round ${round}: ${Math.round(run.perSecond)}/s`)
        if (round > 0) runs.push(run)
      }
      results.push({
        ...summary(runs),
        what: `SQLite, ${size} request${size > 1 ? 's' : ''} a transaction`,
        note: `node:sqlite ${process.versions['sqlite']}, WAL, synchronous = FULL; latency of a transaction`,
      })
    }
    for (const hot of [false, true]) {
      const runs = []
      for (let round = 0; round <= rounds; round++) {
        const made = transfers(sized(64_000, 6_400, 640), hot)
        const run = await inBatches(64, made, (batch) => database.moveAll(batch))
        if (round > 0) runs.push(run)
      }
      progress(`sqlite: transfers${hot ? ' from a hot account' : ''}`)
      results.push({
        ...summary(runs),
        what: `transfers ${hot ? 'from a hot account' : 'between any accounts'}: SQLite, 64 a transaction`,
      })
    }
  } finally {
    database.close()
  }
  return results
}

async function inBatches<T>(
  size: number,
  all: readonly T[],
  act: (batch: readonly T[]) => void,
): Promise<Run> {
  const run = await drive(1, Math.ceil(all.length / size), async (i) =>
    act(all.slice(i * size, (i + 1) * size)),
  )
  return {
    ...run,
    perSecond: run.perSecond * size,
    processorMicros: run.processorMicros! / size,
    threadMicros: run.threadMicros! / size,
  }
}

type Statements = Readonly<Record<keyof typeof statements, StatementSync>>

class Database {
  readonly #database: DatabaseSync
  readonly #run: Statements

  constructor(file: string) {
    this.#database = new DatabaseSync(file)
    this.#database.exec(`
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = FULL;
      CREATE TABLE requests (id TEXT PRIMARY KEY, input TEXT NOT NULL, outcome TEXT) WITHOUT ROWID;
      CREATE TABLE accounts (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL, payments INTEGER NOT NULL);
      CREATE TABLE categories (account INTEGER, name TEXT, cents INTEGER NOT NULL, payments INTEGER NOT NULL,
        PRIMARY KEY (account, name)) WITHOUT ROWID;
      CREATE TABLE transfers (id TEXT PRIMARY KEY, payer INTEGER, payee INTEGER, cents INTEGER) WITHOUT ROWID;
      CREATE TABLE balances (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL);
    `)
    this.#run = Object.fromEntries(
      Object.entries(statements).map(([name, text]) => [name, this.#database.prepare(text)]),
    ) as Statements
  }

  /** Takes requests in one transaction: stores each, reads and writes two rows, and stores the outcome. */
  payAll(batch: readonly Payment[]): void {
    this.#database.exec('BEGIN IMMEDIATE')
    for (const { requestId, account, input } of batch) {
      if (this.#run.take.run(requestId, JSON.stringify(input)).changes === 0) continue
      const { payments } = this.#run.account.get(account, input.cents) as { payments: number }
      this.#run.category.run(account, input.category, input.cents)
      this.#run.decide.run(JSON.stringify({ payments }), requestId)
    }
    this.#database.exec('COMMIT')
  }

  moveAll(batch: readonly Transfer[]): void {
    this.#database.exec('BEGIN IMMEDIATE')
    for (const { requestId, from, to, cents } of batch) {
      if (this.#run.transfer.run(requestId, from, to, cents).changes === 0) continue
      this.#run.balance.run(from, -cents)
      this.#run.balance.run(to, cents)
    }
    this.#database.exec('COMMIT')
  }

  close(): void {
    this.#database.close()
  }
}

const statements = {
  take: 'INSERT INTO requests (id, input) VALUES (?, ?) ON CONFLICT DO NOTHING',
  account: `INSERT INTO accounts VALUES (?, ?, 1) ON CONFLICT (id)
    DO UPDATE SET cents = cents + excluded.cents, payments = payments + 1 RETURNING payments`,
  category: `INSERT INTO categories VALUES (?, ?, ?, 1) ON CONFLICT (account, name)
    DO UPDATE SET cents = cents + excluded.cents, payments = payments + 1`,
  decide: 'UPDATE requests SET outcome = ? WHERE id = ?',
  transfer: 'INSERT INTO transfers VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING',
  balance: `INSERT INTO balances VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET cents = cents + excluded.cents`,
}

import { setImmediate as turn } from 'node:timers/promises'
import type { Client } from 'pg'
import type { App, TableName } from '../app/index.ts'
import { quoted, sqlName } from '../app/name.ts'
import { isView } from '../app/view.ts'
import { onAbort } from '../clock.ts'
import { BatchReader, type MirroredRow, pagesOf } from '../engine/batches.ts'
import type { Engine } from '../engine/engine.ts'
import { changeError, HenceError, retryError } from '../failure.ts'
import { type Reporter, reporterOf } from '../report.ts'
import { type Mirror, mirrorOf } from './mirror.ts'
import { inTransaction, keepWorking, makeSchema, type PostgresConnection } from './work.ts'

export interface PostgresSinkOptions<A extends App> {
  readonly engine: Engine<A>
  /** A connection string, or the options of `Client` in `pg`. */
  readonly connection: PostgresConnection
  /** The tables to mirror, or one view; an object names each. Default: `order-lines` → `order_lines`. */
  readonly tables: readonly TableName<A>[] | { readonly [N in TableName<A>]?: string }
  /** The schema of the mirrored tables. Default `public`. */
  readonly schema?: string
  /** Distinguishes the sinks of one schema. Default: the name of the app. */
  readonly name?: string
  readonly report?: Reporter
}

export interface PostgresSink {
  /** Resolves when all that the engine has applied so far is committed; rejects if the sink ends first. */
  caughtUp(): Promise<void>
  stats(): PostgresSinkStats
  /** Finishes the present transaction and closes the connection. */
  close(): Promise<void>
}

export interface PostgresSinkStats {
  /** The position of the target; undefined until it is known. */
  readonly position: string | undefined
  /** The number of complete copies, and of committed batches, since the start. */
  readonly snapshots: number
  readonly commits: number
}

/**
 * Mirrors tables into PostgreSQL exactly once: rows and position change in one transaction. It begins with a
 * complete copy and continues with every change. After a failure of the database or of this process it
 * continues from the position in the target. It copies everything again if it cannot: if the target belongs
 * to another log, was derived by other code, or was restored from a backup that is older than the changes
 * that the engine keeps. When a candidate is promoted, it copies that in one transaction; as long as the
 * promoted app lacks one of the tables, it leaves the target as it is and reports that.
 *
 * One process at a time writes to a target, others stand by. It needs the npm package `pg`, which you
 * install.
 *
 * @throws HenceError `package-missing`, `option-invalid` (change)
 */
export function postgresSink<A extends App>(options: PostgresSinkOptions<A>): PostgresSink {
  return new Sink(options as unknown as PostgresSinkOptions<App>)
}

/** Describes the mirrored data. A target with another log, code or shapes is copied again. */
interface SinkSource {
  /** By the table's name in the app. */
  readonly mirrors: ReadonlyMap<string, Mirror>
  readonly log: string
  readonly code: string
  readonly shapes: string
}

/** The target's row in the table of positions. */
type SinkTarget = Omit<SinkSource, 'mirrors'> & { readonly position: string }

function isOf(target: SinkTarget, { log, code, shapes }: SinkSource): boolean {
  return target.log === log && target.code === code && target.shapes === shapes
}

class Sink implements PostgresSink {
  readonly #options: PostgresSinkOptions<App> & { readonly schema: string; readonly name: string }
  readonly #positions: string
  readonly #working: ReturnType<typeof keepWorking>
  #position: string | undefined
  #snapshots = 0
  #commits = 0
  /** The feed that it follows; it takes the next batch once the one before is committed. */
  #batches: BatchReader | undefined
  #ended = false
  #progress = Promise.withResolvers<void>()

  constructor(options: PostgresSinkOptions<App>) {
    const { engine, connection, schema = 'public', name = engine.app.name } = options
    this.#options = { ...options, schema, name }
    this.#positions = `${quoted(schema)}.hence_sinks`
    // Throws at once if the tables cannot be mirrored.
    this.#source()
    this.#working = keepWorking({
      name: `The PostgreSQL sink "${name}"`,
      connection,
      lock: `hence sink ${schema}.${name}`,
      report: reporterOf(options.report),
      run: (client, signal) => this.#run(client, signal),
    })
    void this.#working.ended.then(() => {
      this.#ended = true
      this.#advanced()
    })
  }

  async caughtUp(): Promise<void> {
    for (;;) {
      const progress = this.#progress.promise
      // Everything that the engine has applied reaches the sink within this turn; if it then waits, it has
      // committed all of it.
      await turn()
      if (this.#batches?.isWaiting) return
      if (this.#ended) {
        throw retryError('sink-closed', `The PostgreSQL sink "${this.#options.name}" has ended.`)
      }
      await progress
    }
  }

  stats(): PostgresSinkStats {
    return { position: this.#position, snapshots: this.#snapshots, commits: this.#commits }
  }

  close(): Promise<void> {
    return this.#working.stop()
  }

  async #run(client: Client, signal: AbortSignal): Promise<void> {
    await this.#makePositions(client)
    for (let isKnown = true; ; ) {
      const target = isKnown ? await this.#target(client) : undefined
      // The live generation, and with it the app, may have changed. No await until the feed is opened, so
      // that both agree.
      const source = this.#source()
      const stored = target && isOf(target, source) ? target.position : undefined
      const tables = new Set(source.mirrors.keys())
      const { engine } = this.#options
      const view = [...tables].find((name) => isView(engine.app.tables.get(name)!))
      // Of other rows than the source, the feed ends at once.
      const from = stored ?? (view === undefined ? engine.position() : await engine.viewPosition(view))
      const batches = new BatchReader(engine, from, tables, view)
      const forget = onAbort(signal, () => batches.end())
      try {
        const position = stored ?? (await this.#snapshot(client, source, batches, signal))
        await this.#follow(client, source, batches, position)
        return
      } catch (error) {
        // A feed that has ended belongs to an engine that closes.
        if (signal.aborted || (await batches.hasEnded())) return
        if (!(error instanceof HenceError) || error.code !== 'position-unknown') throw error
        isKnown = false
      } finally {
        this.#batches = undefined
        forget()
        batches.end()
      }
    }
  }

  /** @throws HenceError `option-invalid` (change) if the live app lacks one of the tables */
  #source(): SinkSource {
    const { logId, version } = this.#options.engine.stats()
    const mirrors = mirrorsOf(this.#options.engine.app, this.#options.tables, this.#options.schema)
    const shapes = [...mirrors].map(([table, { shape }]) => `${table}: ${shape}`)
    return { mirrors, log: logId, code: version, shapes: shapes.sort().join('; ') }
  }

  async #makePositions(client: Client): Promise<void> {
    await makeSchema(client, this.#options.schema)
    await client.query(
      `CREATE TABLE IF NOT EXISTS ${this.#positions} (
        name text PRIMARY KEY, log text NOT NULL, code text NOT NULL, shapes text NOT NULL,
        position text NOT NULL, changed_at timestamptz NOT NULL DEFAULT now())`,
    )
  }

  async #target(client: Client): Promise<SinkTarget | undefined> {
    const { rows } = await client.query(`SELECT * FROM ${this.#positions} WHERE name = $1`, [
      this.#options.name,
    ])
    return rows[0]
  }

  /**
   * Copies all rows. The engine goes on meanwhile, so changes since the copy began are applied in the same
   * transaction: other readers only see states that have existed. If a candidate is promoted meanwhile, the
   * feed throws and the transaction is rolled back.
   * @returns the position of the target
   */
  async #snapshot(
    client: Client,
    source: SinkSource,
    batches: BatchReader,
    signal: AbortSignal,
  ): Promise<string> {
    const { mirrors, log, code, shapes } = source
    const position = await inTransaction(client, async () => {
      const target = await this.#target(client)
      const isReshaped = target !== undefined && target.shapes !== shapes
      for (const [name, mirror] of mirrors) {
        await mirror.make(client, isReshaped)
        await mirror.gather(client)
        for await (const page of pagesOf(this.#options.engine, name)) {
          signal.throwIfAborted()
          await mirror.gatherRows(client, page)
        }
        await mirror.replace(client)
      }
      let batch = await batches.take(false)
      while (!batch.isAll && !batch.isLast) {
        await apply(client, mirrors, batch.rows)
        batch = await batches.take(false)
      }
      await apply(client, mirrors, batch.rows)
      await client.query(
        `INSERT INTO ${this.#positions} (name, log, code, shapes, position) VALUES ($1, $2, $3, $4, $5)
          ON CONFLICT (name) DO UPDATE SET log = $2, code = $3, shapes = $4, position = $5, changed_at = now()`,
        [this.#options.name, log, code, shapes, batch.position],
      )
      return batch.position
    })
    this.#snapshots++
    return position
  }

  /** Commits changes until the feed ends. */
  async #follow(client: Client, source: SinkSource, batches: BatchReader, from: string): Promise<void> {
    const { mirrors, log } = source
    let position = from
    for (;;) {
      this.#position = position
      this.#batches = batches
      this.#advanced()
      const batch = await batches.take(true)
      if (!batch.isEmpty) {
        await inTransaction(client, async () => {
          await apply(client, mirrors, batch.rows)
          const { rowCount } = await client.query(
            `UPDATE ${this.#positions} SET position = $1, changed_at = now() WHERE name = $2 AND position ` +
              '= $3 AND log = $4',
            [batch.position, this.#options.name, position, log],
          )
          if (rowCount !== 1) throw new Error('another process has changed the position in the target')
        })
        position = batch.position
        this.#commits++
      }
      if (batch.isLast) return
    }
  }

  #advanced(): void {
    this.#progress.resolve()
    this.#progress = Promise.withResolvers()
  }
}

async function apply(
  client: Client,
  mirrors: ReadonlyMap<string, Mirror>,
  rows: ReadonlyMap<string, readonly MirroredRow[]>,
): Promise<void> {
  for (const [table, changed] of rows) await mirrors.get(table)!.apply(client, changed)
}

function mirrorsOf(
  app: App,
  tables: PostgresSinkOptions<App>['tables'],
  schema: string,
): Map<string, Mirror> {
  const names: [string, string | undefined][] = Array.isArray(tables)
    ? tables.map((name) => [name, undefined])
    : Object.entries(tables)
  const mirrors = new Map<string, Mirror>()
  const taken = new Set(['hence_sinks'])
  for (const [name, given] of names) {
    const table = app.tables.get(name)
    const target = given ?? sqlName(name)
    const isTable = table !== undefined && (!isView(table) || names.length === 1)
    if (!isTable || target === '' || Buffer.byteLength(target) > 63 || taken.has(target)) {
      throw changeError(
        'option-invalid',
        `The table "${name}" cannot be mirrored as "${target}": it must be a table of the app, or a view alone, and its ` +
          'name in PostgreSQL must have at most 63 bytes and be used by no other table of the sink.',
      )
    }
    taken.add(target)
    mirrors.set(name, mirrorOf(schema, target, table))
  }
  return mirrors
}

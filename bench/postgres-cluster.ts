import { existsSync, readdirSync } from 'node:fs'
import { chown, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Client, type ClientConfig } from 'pg'
import { ended, start } from './process.ts'

export interface Cluster {
  readonly version: string
  readonly connection: ClientConfig
  stop(): Promise<void>
}

/** Why no cluster could be started, where that is no fault of the bench. */
export class NoPostgres extends Error {}

/**
 * Starts a PostgreSQL of its own, as it comes out of the box (fsync and synchronous_commit on), reachable
 * by a socket only.
 * @throws NoPostgres when there is none on this machine, or it cannot be run here
 */
export async function startCluster(directory: string): Promise<Cluster> {
  const programs = findPrograms()
  if (programs === undefined) throw new NoPostgres('there is no `initdb` and `postgres` on this machine')
  const user = await unprivileged()
  // The path of a socket may have about 100 bytes, so it stands apart from the data.
  const sockets = await mkdtemp(join(tmpdir(), 'hence-bench-'))
  for (const each of user === undefined ? [] : [directory, sockets]) await chown(each, user!.uid, user!.gid)
  const data = join(directory, 'data')
  const options = { cwd: sockets, stdio: 'ignore', ...user } as const
  const setUp = start(
    join(programs, 'initdb'),
    ['-D', data, '-U', 'bench', '-A', 'trust', '-E', 'UTF8'],
    options,
  )
  await ended(setUp, 'initdb').catch(async (error) => {
    await rm(sockets, { recursive: true })
    throw new NoPostgres(`${error.message} May the user that it runs as enter ${dirname(directory)}?`)
  })
  const settings = { listen_addresses: '', unix_socket_directories: sockets }
  const server = start(
    join(programs, 'postgres'),
    ['-D', data, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
    options,
  )
  const stopped = ended(server, 'postgres')
  stopped.catch(() => {}) // It is awaited when it is told to stop.
  const connection = { host: sockets, user: 'bench', database: 'postgres' }
  return {
    version: await versionOf(connection),
    connection,
    async stop() {
      server.kill('SIGINT')
      await stopped
      await rm(sockets, { recursive: true, force: true })
    },
  }
}

/** The directory that holds the programs of the newest version. */
function findPrograms(): string | undefined {
  const packaged = '/usr/lib/postgresql'
  const versions = existsSync(packaged) ? readdirSync(packaged).sort((a, b) => Number(b) - Number(a)) : []
  return [
    ...(process.env.PATH ?? '').split(delimiter),
    ...versions.map((version) => join(packaged, version, 'bin')),
    '/usr/local/bin',
  ].find((path) => existsSync(join(path, 'initdb')) && existsSync(join(path, 'postgres')))
}

/** PostgreSQL does not run as root; gives somebody else then. */
async function unprivileged(): Promise<{ uid: number; gid: number } | undefined> {
  if (process.getuid?.() !== 0) return undefined
  const lines = (await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':'))
  const line = lines.find(([name]) => name === 'postgres') ?? lines.find(([name]) => name === 'nobody')
  if (line === undefined)
    throw new NoPostgres('it does not run as root, and there is no user "postgres" or "nobody"')
  return { uid: Number(line[2]), gid: Number(line[3]) }
}

/** Tries until the server takes connections. */
async function versionOf(connection: ClientConfig): Promise<string> {
  for (let tries = 1; ; tries++) {
    const client = new Client(connection)
    try {
      await client.connect()
      const { rows } = await client.query('SHOW server_version')
      await client.end()
      return rows[0].server_version
    } catch (error) {
      if (tries === 100) throw error
      await pause(100)
    }
  }
}

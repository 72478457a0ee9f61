import { rmSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, statfs } from 'node:fs/promises'
import { cpus, release, totalmem, type } from 'node:os'
import { join } from 'node:path'

/** Makes an empty directory below this one, which is removed when the process ends, however it ends. */
export async function freshDirectory(below: string): Promise<string> {
  await mkdir(below, { recursive: true })
  const directory = await mkdtemp(join(below, 'bench-'))
  // PostgreSQL may run as another user, who must be let through to its part.
  await chmod(directory, 0o711)
  const signals = { SIGINT: 130, SIGTERM: 143 } as const
  for (const [signal, code] of Object.entries(signals)) process.once(signal, () => process.exit(code))
  // What the bench has started may still write when it is told to end, so one try may not do.
  process.on('exit', () =>
    rmSync(directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 }),
  )
  return directory
}

/** File systems in memory, by the number that Linux gives them. */
const inMemory: Readonly<Record<number, string>> = { 16914836: 'tmpfs', 2240043254: 'ramfs' }
const onDisk: Readonly<Record<number, string>> = {
  61267: 'ext4',
  1481003842: 'xfs',
  2435016766: 'btrfs',
  801189825: 'zfs',
  2035054128: 'overlay',
}

export interface Machine {
  readonly processor: string
  readonly cores: number
  readonly memoryGibibytes: number
  readonly system: string
  readonly node: string
  readonly fileSystem: string
  /** Nothing on it survives a loss of power, so an fsync costs nothing, and the figures mean little. */
  readonly inMemory: boolean
}

/** What the figures were measured on, with nothing that names the machine. */
export async function describeMachine(directory: string): Promise<Machine> {
  const { type: kind } = await statfs(directory)
  const [processor] = cpus()
  return {
    processor: processor?.model ?? 'unknown processor',
    cores: cpus().length,
    memoryGibibytes: Math.round(totalmem() / 2 ** 30),
    system: `${type()} ${release()}`,
    node: process.version,
    fileSystem: inMemory[kind] ?? onDisk[kind] ?? `file system ${kind.toString(16)}`,
    inMemory: kind in inMemory,
  }
}

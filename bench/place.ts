import { rmSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, statfs } from 'node:fs/promises'
import { cpus, release, totalmem, type } from 'node:os'
import { join } from 'node:path'

/**
 * Makes an empty directory below this one. It is removed when the process exits, normally or by SIGINT or
 * SIGTERM.
 */
export async function freshDirectory(below: string): Promise<string> {
  await mkdir(below, { recursive: true })
  const directory = await mkdtemp(join(below, 'bench-'))
  // PostgreSQL may run as another user, which must be able to reach its subdirectory.
  await chmod(directory, 0o711)
  const signals = { SIGINT: 130, SIGTERM: 143 } as const
  for (const [signal, code] of Object.entries(signals)) process.once(signal, () => process.exit(code))
  // Child processes may still write while they exit, so the removal is retried.
  process.on('exit', () =>
    rmSync(directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 }),
  )
  return directory
}

/** File systems in memory and on disk, by their number in Linux. */
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
  /** Whether the file system is in memory: then an fsync costs nothing, and the figures mean little. */
  readonly inMemory: boolean
}

/** Describes the machine without identifying it. */
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

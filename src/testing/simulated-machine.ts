import { basename, dirname } from 'node:path'
import type { Clock } from '../clock.ts'
import { HenceError } from '../failure.ts'
import { type Disk, type DiskFile, withFile } from '../log/file-log/disk.ts'
import { openFileLog } from '../log/file-log/file-log.ts'
import { readBytes } from '../log/file-log/segment-scan.ts'
import { type MemoryStore, memoryStore } from '../state/memory-store.ts'
import { dataUnusable, keep, type Storage } from '../storage/storage.ts'
import { type Fault, type Operation, simulatedDisk } from './simulated-disk.ts'

const directory = '/data'

interface MachineOptions {
  readonly random: () => number
  readonly partitions: number
  readonly segmentBytes: number
  readonly fault: (operation: Operation) => Exclude<Fault, 'crash'> | undefined
  /** Called before each operation of a process that runs. */
  readonly operated?: (what: string) => void
}

/**
 * A machine with one simulated disk, and the processes that run on it one after the other. A process can die
 * at any operation by which it touches the world outside: of the disk, of the store, or of the network. From
 * then on nothing that it does arrives, and none of its calls settles. The log is the file log on the
 * simulated disk; checkpoints are kept in memory, and one that was not complete is gone.
 */
export class SimulatedMachine {
  readonly #options: MachineOptions
  readonly #disk
  #store: MemoryStore | undefined
  #process = 0
  #operations = 0
  #dieAt = Number.POSITIVE_INFINITY
  #resumed: Promise<void> | undefined

  constructor(options: MachineOptions) {
    this.#options = options
    this.#disk = simulatedDisk({
      random: options.random,
      fault: (operation) => {
        this.#count(`${operation.kind} ${operation.path}`)
        return this.isDead ? 'crash' : options.fault(operation)
      },
    })
  }

  get operations(): number {
    return this.#operations
  }

  /** Whether the process has died, and `end` was not called since. */
  get isDead(): boolean {
    return this.#operations >= this.#dieAt
  }

  dieAfter(n: number): void {
    this.#dieAt = Math.min(this.#dieAt, this.#operations + n)
  }

  /** Ends the process; without power, random parts of what was not synced are lost. */
  end({ losePower }: { readonly losePower: boolean }): void {
    this.#process++
    this.#dieAt = Number.POSITIVE_INFINITY
    // A checkpoint under way may still reach the old store. The next process must not see half of it.
    this.#store = this.#store?.snapshot()
    if (losePower) this.#disk.losePower()
    else this.#disk.endProcess()
  }

  /** Holds every operation of the process, as if it were stopped by a signal. Returns what lets it go on. */
  pause(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#resumed = promise
    return () => {
      this.#resumed = undefined
      resolve()
    }
  }

  forgetState(): void {
    this.#store = undefined
  }

  flipBit(): (() => void) | undefined {
    return this.#disk.flipBit(`${directory}/log`)
  }

  start(): SimulatedProcess {
    const process = ++this.#process
    const isGone = () => process !== this.#process || this.isDead
    const never = new Promise<never>(() => {})
    const lasting = async <T>(act: () => T | Promise<T>): Promise<T> => {
      if (isGone()) return never
      await this.#resumed
      if (isGone()) return never
      try {
        const value = await act()
        return isGone() ? never : value
      } catch (error) {
        if (isGone()) return never
        throw error
      }
    }
    const operate: SimulatedProcess['operate'] = (what, act) =>
      lasting(() => {
        this.#count(what)
        return this.isDead ? never : act()
      })
    const disk = ofProcess(this.#disk, lasting)
    return {
      get isGone() {
        return isGone()
      },
      operate,
      disk,
      storage: async (clock) => {
        const { partitions, segmentBytes } = this.#options
        const log = await openFileLog({
          ...{ directory, disk, partitions, segmentBytes, clock },
          sealAfterMs: 0,
          newLogId: 'ab'.repeat(16),
          report: () => {},
        }).catch((error) => {
          throw error instanceof HenceError ? error : dataUnusable(directory, error)
        })
        return {
          log,
          openStore: async (_, __, anew) => {
            this.#store = (anew ? undefined : this.#store?.snapshot()) ?? memoryStore()
            const store = this.#store
            return {
              get: (collection, key) => store.get(collection, key),
              range: (collection, range) => store.range(collection, range),
              write: (changes) => {
                const all = [...changes].map(([name, entries]) => [name, [...entries]] as const)
                return operate('checkpoint', () => store.write(all))
              },
              view: () => store.view(),
              async close() {},
            }
          },
          dropStore: async () => this.forgetState(),
          keep: (name, text) => keep(disk, directory, name, text),
          kept: (name) => kept(disk, `${directory}/${name}`),
          check: () => log.check(),
          close: () => log.close(),
        }
      },
    }
  }

  #count(what: string): void {
    this.#options.operated?.(what)
    this.#operations++
  }
}

export interface SimulatedProcess {
  readonly isGone: boolean
  readonly disk: Disk
  /** Opens its storage, which must be that of one engine. */
  storage(clock: Clock): Promise<Storage>
  /** Runs an operation on the world outside; it does not settle if the process dies before its end. */
  operate<T>(what: string, act: () => T | Promise<T>): Promise<T>
}

type Lasting = <T>(act: () => T | Promise<T>) => Promise<T>

function ofProcess(disk: Disk, lasting: Lasting): Disk {
  return {
    async open(path, mode) {
      const file = await lasting(() => disk.open(path, mode))
      return all<DiskFile>(file, lasting)
    },
    ...all<Omit<Disk, 'open'>>(disk, lasting),
  }
}

/** An object whose methods are those of another one, made lasting. */
function all<T extends object>(of: T, lasting: Lasting): T {
  const methods = Object.entries(of).filter(([name, value]) => typeof value === 'function' && name !== 'open')
  return Object.fromEntries(
    methods.map(([name, method]) => [name, (...args: unknown[]) => lasting(() => method.apply(of, args))]),
  ) as T
}

async function kept(disk: Disk, path: string): Promise<string | undefined> {
  if (!(await disk.list(dirname(path)))?.includes(basename(path))) return undefined
  return withFile(disk, path, 'read', async (file) =>
    (await readBytes(file, 0, await file.size())).toString(),
  )
}

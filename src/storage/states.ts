import { existsSync, readdirSync, rmSync, type Stats, statSync, writeFileSync } from 'node:fs'
import { type FileHandle, mkdir, mkdtemp, open, rename, rm, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { type Clock, isWithin } from '../clock.ts'
import { type HenceError, operatorError } from '../failure.ts'
import type { Reporter } from '../report.ts'
import { checkLmdbStore, copyLmdbStore, isUseless, needsCheckFirst } from '../state/lmdb-check.ts'
import { Useless } from '../state/lmdb-file.ts'
import { unreadable } from '../state/lmdb-files.ts'
import { openLmdbStore } from '../state/lmdb-store.ts'
import type { Store } from '../state/store.ts'
import { closeToOthers } from './permissions.ts'

/** A state up to this size, which takes about a quarter of a second, is checked before a start uses it. */
const checkedFirstBytes = 64 * 1024 * 1024
/** The time from the end of one check to the beginning of the next, in milliseconds. */
const restMs = 86_400_000
/** The time after a check that failed for another reason than damage. */
const retryMs = 600_000

/**
 * A file in the folder of a state that is in use although it was not checked as a whole, or although damage
 * was found in it. A start that finds this file checks all of the state first, whatever its size.
 */
const doubtName = 'unchecked'

/** The name of a derived state: the number of a generation, or `view.…`; see `view/fold.ts`. */
export type StateName = number | `view.${string}`

interface StatesOptions {
  readonly directory: string
  readonly clock: Clock
  readonly report: Reporter
  /** Up to this size a state is checked before it is used, and beyond it by `tend`. Default 64 MiB. */
  readonly checkedFirstBytes?: number | undefined
}

/**
 * The derived states in a data directory. Each is checked as a whole in every process that opens it, and once
 * a day after that. One that is damaged, or of another format, is set aside, with a report, and derived
 * again.
 */
export class States {
  readonly #options: StatesOptions
  /** When each state that was opened was checked as a whole; undefined: not yet, or not since a doubt. */
  readonly #checkedAt = new Map<StateName, number | undefined>()
  /** The file of each state that was opened, as it was seen last. */
  readonly #files = new Map<StateName, Stats>()
  readonly #damaged = new Set<StateName>()
  readonly #checkedLater = new Set<StateName>()
  readonly #tended = new Set<StateName>()
  readonly #closing = new AbortController()
  #tending: Promise<void> | undefined
  #failedAt: number | undefined
  /** How much of the state the check under way has seen, from 0 to 1; undefined without one. */
  progress: number | undefined

  constructor(options: StatesOptions) {
    this.#options = options
    // A process that died may have left copies, and states of a derivation that is made anew each time.
    const folder = join(options.directory, 'state')
    const left = existsSync(folder) ? readdirSync(folder).filter((name) => isPassing.test(name)) : []
    for (const name of left) rmSync(join(folder, name), { recursive: true, force: true })
  }

  /** When a state was last checked as a whole, in milliseconds since 1970; undefined before the first time. */
  checkedAt(generation: StateName): number | undefined {
    return this.#checkedAt.get(generation)
  }

  /** See `Storage.openStore`. */
  async open(generation: StateName, collections: readonly string[], anew: boolean): Promise<Store> {
    const folder = this.#folder(generation)
    this.#files.delete(generation)
    if (anew) await rm(folder, { recursive: true, force: true })
    if (anew || !this.#checkedAt.has(generation))
      this.#checkedAt.set(generation, await this.#first(folder, generation))
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const store = await openLmdbStore({
      directory: folder,
      collections,
      damaged: () => this.#doubt(generation),
    })
    for (const name of ['data.mdb', 'lock.mdb']) closeToOthers(join(folder, name))
    this.#files.set(generation, statSync(join(folder, 'data.mdb')))
    return store
  }

  /** Lets a state that another process has just derived be opened as if it were large: requests wait for it. */
  checkLater(generation: StateName): void {
    this.#checkedLater.add(generation)
  }

  has(generation: StateName): boolean {
    return existsSync(join(this.#folder(generation), 'data.mdb'))
  }

  /**
   * Begins a state with a copy of another one. It is checked before it is used.
   * @param write writes the copy, as a file at this path
   */
  async adopt(generation: StateName, write: (path: string) => Promise<void>): Promise<void> {
    const target = join(this.#folder(generation), 'data.mdb')
    await mkdir(this.#folder(generation), { recursive: true, mode: 0o700 })
    writeFileSync(this.#mark(generation), '', { mode: 0o600 })
    await write(`${target}.part`)
    await rename(`${target}.part`, target)
  }

  /**
   * Copies a state, which may be open, as of one moment.
   * @returns the copy, whose space is free again once it is closed
   * @throws HenceError `state-unreadable`, `file-unusable` (operator)
   */
  async copy(generation: StateName): Promise<FileHandle> {
    const from = this.#folder(generation)
    const { size } = await stat(join(from, 'data.mdb'))
    const { bavail, bsize } = await statfs(from)
    // The copy, and as much for the engine.
    if (bavail * bsize < 2 * size) throw noRoom(from, 2 * size, bavail * bsize)
    const copies = copiesIn(this.#options.directory)
    await mkdir(copies, { recursive: true, mode: 0o700 })
    const to = await mkdtemp(join(copies, 'copy-'))
    try {
      await copyLmdbStore(from, to)
      return await open(join(to, 'data.mdb'))
    } finally {
      await rm(to, { recursive: true })
    }
  }

  /** Removes a state that is not open, and what was set aside of it. */
  async drop(generation: StateName): Promise<void> {
    const folder = this.#folder(generation)
    this.#files.delete(generation)
    for (const each of [folder, asideOf(folder)]) await rm(each, { recursive: true, force: true })
  }

  /**
   * Does what is due for the live state while its engine runs, one thing at a time.
   * @throws HenceError `state-unreadable` (operator) if it is damaged or lost: then nothing of it may be used
   */
  async tend(generation: StateName): Promise<void> {
    this.#checkFile(generation)
    if (this.#tending !== undefined || this.#closing.signal.aborted) return
    this.#tending = this.#tend(generation).finally(() => {
      this.#tending = undefined
    })
    return this.#tending
  }

  async #tend(generation: StateName): Promise<void> {
    const { clock, report } = this.#options
    const folder = this.#folder(generation)
    if (!this.#tended.has(generation)) await rm(asideOf(folder), { recursive: true, force: true })
    this.#tended.add(generation)
    if (isWithin(clock, restMs, this.#checkedAt.get(generation))) return
    if (isWithin(clock, retryMs, this.#failedAt)) return
    const progress = (done: number) => {
      this.progress = done
    }
    progress(0)
    const { signal } = this.#closing
    try {
      await checkLmdbStore(folder, { isInUse: true, apart: { progress, signal } })
      this.#checkedAt.set(generation, clock.now())
      if (!this.#damaged.has(generation)) rmSync(this.#mark(generation), { force: true })
    } catch (error) {
      if (signal.aborted) return
      if (isUseless(error)) {
        this.#doubt(generation)
        throw error
      }
      this.#failedAt = clock.now()
      const { code, message } = error as HenceError
      report({ level: 'warning', code, message })
    } finally {
      this.progress = undefined
    }
  }

  /** LMDB maps the file: it would go on with one that was removed, and end the process where one was cut. */
  #checkFile(generation: StateName): void {
    const before = this.#files.get(generation)
    if (before === undefined) return
    const folder = this.#folder(generation)
    const now = statSync(join(folder, 'data.mdb'), { throwIfNoEntry: false })
    // It only ever grows.
    if (now?.ino !== before.ino || now.size < before.size)
      throw unreadable(folder, new Useless('data.mdb was removed, cut or replaced while it was open'))
    this.#files.set(generation, now)
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await this.#tending?.catch(() => {})
    // The next start goes on with checks in the background.
    for (const generation of this.#checkedAt.keys())
      if (!this.#damaged.has(generation)) rmSync(this.#mark(generation), { force: true })
  }

  /** Checks a state at its first opening; returns when, or undefined if that is left for later. */
  async #first(folder: string, generation: StateName): Promise<number | undefined> {
    const { clock, report, checkedFirstBytes: usual = checkedFirstBytes } = this.#options
    const bytes = this.#checkedLater.has(generation) ? 0 : usual
    const mark = this.#mark(generation)
    try {
      if (!existsSync(mark) && !needsCheckFirst(folder, bytes)) {
        // This checks its format.
        await (await openLmdbStore({ directory: folder, collections: [], readOnly: true })).close()
        writeFileSync(mark, '', { mode: 0o600 })
        return undefined
      }
      await checkLmdbStore(folder, { isInUse: false })
      rmSync(mark, { recursive: true, force: true })
    } catch (error) {
      if (!isUseless(error)) throw error
      const aside = asideOf(folder)
      const why = ((error as HenceError).cause as Error).message
      const message =
        `The derived state ${generation}, in ${folder}, cannot be used: ${why}. It is set aside as ` +
        `${aside} until it has been derived again from the log.`
      report({ level: 'alarm', code: 'state-unreadable', message })
      await rm(aside, { recursive: true, force: true })
      await rename(folder, aside)
    }
    return clock.now()
  }

  #doubt(generation: StateName): void {
    this.#damaged.add(generation)
    this.#checkedAt.set(generation, undefined)
    writeFileSync(this.#mark(generation), '', { mode: 0o600 })
  }

  #folder(generation: StateName): string {
    return stateFolder(this.#options.directory, generation)
  }

  #mark(generation: StateName): string {
    return join(this.#folder(generation), doubtName)
  }
}

export function stateFolder(directory: string, generation: StateName): string {
  return join(directory, 'state', String(generation))
}

/** Where copies are while they are made. */
const copiesIn = (directory: string) => join(directory, 'state', 'copies')
/** See `view/derive.ts` and `view/past.ts`. */
const isPassing = /^(copies|view\.derive|view\..*\.fill[0-9a-f]*\.0)$/

const noRoom = (folder: string, needed: number, free: number) =>
  operatorError(
    'file-unusable',
    `${folder} cannot be copied: the disk needs ${needed} free bytes for it, and has ${free}. Free space there.`,
  )

/** Where a damaged state is until it has been derived again: a start may fail before that. */
const asideOf = (folder: string) => `${folder}.damaged`

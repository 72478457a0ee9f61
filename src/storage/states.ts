import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { copyFile, mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import type { HenceError } from '../failure.ts'
import type { Reporter } from '../report.ts'
import { checkLmdbStore, isUseless, needsCheckFirst } from '../state/lmdb-check.ts'
import { openLmdbStore } from '../state/lmdb-store.ts'
import type { Store } from '../state/store.ts'
import { closeToOthers } from './permissions.ts'

/** A state up to this size, which takes about a quarter of a second, is checked before a start uses it. */
const checkedFirstBytes = 64 * 1024 * 1024
/** The time from the end of one check to the beginning of the next, in milliseconds. */
const restMs = 86_400_000
/** The same after a check that failed for another reason than damage. */
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
  readonly #damaged = new Set<StateName>()
  readonly #tended = new Set<StateName>()
  readonly #closing = new AbortController()
  #tending: Promise<void> | undefined
  #retryAt = 0
  /** How much of the state the check under way has seen, from 0 to 1; undefined without one. */
  progress: number | undefined

  constructor(options: StatesOptions) {
    this.#options = options
  }

  /** When a state was last checked as a whole, in milliseconds since 1970; undefined before the first time. */
  checkedAt(generation: StateName): number | undefined {
    return this.#checkedAt.get(generation)
  }

  /** See `Storage.openStore`. */
  async open(generation: StateName, collections: readonly string[], anew: boolean): Promise<Store> {
    const folder = this.#folder(generation)
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
    return store
  }

  /**
   * Copies a state from another folder of states, if there is none here. It is checked before it is used.
   * @returns whether it was copied
   */
  async adopt(generation: StateName, from: string): Promise<boolean> {
    const source = join(stateFolder(from, generation), 'data.mdb')
    const folder = this.#folder(generation)
    const target = join(folder, 'data.mdb')
    if (existsSync(target) || !existsSync(source)) return false
    await mkdir(folder, { recursive: true, mode: 0o700 })
    writeFileSync(this.#mark(generation), '', { mode: 0o600 })
    await copyFile(source, `${target}.part`)
    await rename(`${target}.part`, target)
    return true
  }

  /** Removes a state that is not open, and what was set aside of it. */
  async drop(generation: StateName): Promise<void> {
    const folder = this.#folder(generation)
    for (const each of [folder, asideOf(folder)]) await rm(each, { recursive: true, force: true })
  }

  /**
   * Does what is due for the live state while its engine runs, one thing at a time.
   * @throws HenceError `state-unreadable` (operator) if it is damaged: then nothing of it may be used
   */
  async tend(generation: StateName): Promise<void> {
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
    const now = clock.now()
    const before = this.#checkedAt.get(generation)
    if (before === undefined ? now < this.#retryAt : now - before < restMs) return
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
      this.#retryAt = now + retryMs
      const { code, message } = error as HenceError
      report({ level: 'warning', code, message })
    } finally {
      this.progress = undefined
    }
  }

  /** Ends a check under way. */
  async close(): Promise<void> {
    this.#closing.abort()
    await this.#tending?.catch(() => {})
    // The next start goes on with checks in the background.
    for (const generation of this.#checkedAt.keys())
      if (!this.#damaged.has(generation)) rmSync(this.#mark(generation), { force: true })
  }

  /** Checks a state at its first opening; returns when, or undefined if that is left for later. */
  async #first(folder: string, generation: StateName): Promise<number | undefined> {
    const { clock, report, checkedFirstBytes: bytes = checkedFirstBytes } = this.#options
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

/** Where a damaged state is until it has been derived again: a start may fail before that. */
const asideOf = (folder: string) => `${folder}.damaged`

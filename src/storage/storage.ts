import { dirname, join, resolve } from 'node:path'
import { type Clock, pause } from '../clock.ts'
import { endAll, HenceError, operatorError, retryError, thrownText, unended } from '../failure.ts'
import { fileFailure } from '../file-failure.ts'
import type { Carrier } from '../log/carrier.ts'
import { type Disk, makeDirectories, realDisk, writeWhole } from '../log/file-log/disk.ts'
import { type FileLog, openFileLog } from '../log/file-log/file-log.ts'
import type { Log } from '../log/log.ts'
import type { Reporter } from '../report.ts'
import type { Store } from '../state/store.ts'
import { ActiveNote } from './active-note.ts'
import { type DirectoryLock, lockDirectory } from './directory-lock.ts'
import { isHeld } from './file-lock.ts'
import { missingLog, wrongIn } from './layout.ts'
import { warningOfAccess } from './permissions.ts'
import { foldingRunName, RunFile } from './run-file.ts'
import { type StateName, States } from './states.ts'
import { readTextIfThere } from './text-file.ts'
import { TryFile } from './try-file.ts'

/** Where an engine keeps its log and the state derived from it. */
export interface Storage {
  readonly log: Log
  /** With a log in a carrier: the local copy, which only follows until it is claimed, and who is active. */
  readonly carried?: { readonly log: FileLog; readonly note: ActiveNote }
  /** The data directory, if there is one: then another process can read its files. */
  readonly directory?: string
  /** Notes of how the last process ended; undefined where no process can leave any. */
  readonly run?: RunFile
  /** The same of folds. */
  readonly folding?: RunFile
  /** Notes of the tries of effects; undefined where nothing outlives the process. */
  readonly tries?: TryFile
  /** The folder for signed tree heads and their proofs; undefined: in memory. */
  readonly audit?: string
  /** The derived states, where they can be damaged. */
  readonly states?: States
  /**
   * Opens the derived state of a generation.
   * @param anew begin with an empty one; the old one is removed, and derived again from the log
   */
  openStore(generation: StateName, collections: readonly string[], anew: boolean): Promise<Store>
  /** Removes the derived state of a generation, which is not open. */
  dropStore(generation: StateName): Promise<void>
  /**
   * Keeps a text under a name, for example `code/HASH.js`, and replaces an earlier one. The text is durable
   * when this resolves; names that begin with `state/` may be lost together with the derived state.
   */
  keep(name: string, text: string): Promise<void>
  /** Returns the text that is kept under a name; undefined if there is none. */
  kept(name: string): Promise<string | undefined>
  /**
   * Checks, cheaply enough for a readiness probe, that what this process wrote is still there and still its
   * own. Storage that cannot be lost has no such check.
   * @throws HenceError `data-lost`, `data-taken` (operator)
   */
  check?(): Promise<void>
  /** Lets another process take a log in a carrier: from here on this one appends nothing. */
  release?(): Promise<void>
  close(): Promise<void>
}

export const codeName = (version: string): string => `code/${version}.js`

/** The lock of the process that derives a candidate generation. */
export const derivingLock = 'state/deriving.lock'

/**
 * Storage in a directory:
 *
 *   lock, lock.json   held by the one process that has the directory open
 *   reserve           space that a start on a full disk uses
 *   log/              the truth; see docs/reference/log-format.md
 *   state/run.json    exists while a process has the directory open; see `RunFile`
 *   state/deriving.json  the same of the process that derives a candidate
 *   state/folding.json   the same of the folds of views
 *   state/tries       the tries of effects that wait; see `TryFile`
 *   state/N/          derived by generation N; may be removed while no process runs
 *   state/view.…/     the rows of a view, likewise; state/views.json says which of them answer
 *   code/             every bundle that derived state, by its hash
 *   promotions/       the corrections of each promotion, until they are in the log
 *   audit/            the signing key, signed tree heads, and the derived trees; see `Auditor`
 *   signer.pem        the public key again, which shows that `audit/` was lost
 *
 * With a carrier, `log/`, `code/` and `promotions/` are copies of what is there.
 *
 * @throws HenceError `data-in-use` (retry), `data-unusable` (operator), and the errors of opening the log;
 *   the reason of the signal if that ended the waiting
 */
export async function openDirectory(options: {
  readonly directory: string
  readonly partitions: number | undefined
  readonly clock: Clock
  readonly report: Reporter
  /** The size of a segment of the log; see `openFileLog`. */
  readonly segmentBytes?: number
  /** The carrier that has the log; it is closed with the storage. Default: none, the directory has the log. */
  readonly carrier?: Carrier | undefined
  /** With a carrier: the URL where others reach this process. */
  readonly address?: string | undefined
  /** See `States`. */
  readonly checkedFirstBytes?: number
  /** Wait until another process releases the directory. */
  readonly wait?: boolean | undefined
  /** Ends the waiting. */
  readonly signal?: AbortSignal | undefined
}): Promise<Storage> {
  const { directory, signal, carrier } = options
  let lock: DirectoryLock | undefined
  let log: FileLog | undefined
  let run: RunFile | undefined
  let folding: RunFile | undefined
  let tries: TryFile
  let states: States
  try {
    await makeDirectories(realDisk, resolve(directory), 'data directory')
    const [wrong] = await wrongIn(directory)
    if (wrong !== undefined) throw wrong
    lock = await lockDirectory(directory, options)
    const warning = await warningOfAccess(directory)
    if (warning) options.report(warning)
    await untilNobodyDerives(directory, options.clock, signal)
    const missing = carrier === undefined ? await missingLog(directory) : undefined
    if (missing !== undefined) throw missing
    states = new States(options)
    const own = lock
    log = await openFileLog({ ...options, follow: carrier !== undefined, own: () => own.check() })
    run = RunFile.open(directory)
    folding = RunFile.open(directory, foldingRunName)
    tries = new TryFile(directory)
  } catch (error) {
    run?.leave()
    folding?.leave()
    await endAll([() => log?.close(), () => carrier?.close(), () => lock?.release()]).catch(() => {})
    if (error instanceof HenceError || (signal?.aborted && error === signal.reason)) throw error
    throw dataUnusable(directory, error)
  }
  const [held, opened, notes] = [lock, log, [run, folding, tries]]
  const note = carrier && new ActiveNote(carrier, options.clock, options.address)
  // Its silence says the same, a little later.
  const release = async () => note?.release().catch(() => {})
  return {
    log: opened,
    run,
    folding,
    tries,
    ...(note && { carried: { log: opened, note } }),
    directory: resolve(directory),
    audit: join(directory, 'audit'),
    states,
    openStore: (...given) => states.open(...given),
    dropStore: (generation) => states.drop(generation),
    async keep(name, text) {
      if (carrier && !name.startsWith('state/')) await carrier.put(name, Buffer.from(text))
      await keep(realDisk, resolve(directory), name, text)
    },
    async kept(name) {
      const here = await kept(directory, name)
      // The name of code is its hash.
      const isKnown = name.startsWith('code/') ? here !== undefined : name.startsWith('state/')
      const there = isKnown ? undefined : (await carrier?.get(name))?.toString()
      if (there === undefined || there === here) return here
      await keep(realDisk, resolve(directory), name, there)
      return there
    },
    async check() {
      note?.check()
      await opened.check()
    },
    async release() {
      if (note === undefined) return
      await opened.seal()
      await release()
    },
    // A log that stayed open would still be written when the lock is another's.
    close: () =>
      endAll([
        () => states.close(),
        ...notes.map((note) => () => note.close()),
        () => opened.close(),
        release,
        () => carrier?.close(),
        () => held.release(),
      ]),
  }
}

const nobodyMsMax = 30_000

/** A killed process may have left a child that derives a candidate; the child ends as soon as it notices. */
async function untilNobodyDerives(
  directory: string,
  clock: Clock,
  signal = new AbortController().signal,
): Promise<void> {
  const until = clock.now() + nobodyMsMax
  while (isHeld(join(directory, derivingLock))) {
    signal.throwIfAborted()
    if (clock.now() > until) throw stillDeriving(directory)
    await pause(clock, 20, signal)
  }
}

/** Keeps a text in a data directory; it is durable when this resolves. */
export async function keep(disk: Disk, directory: string, name: string, text: string): Promise<void> {
  const path = join(directory, name)
  const folder = dirname(path)
  try {
    await makeDirectories(disk, folder, 'folder of kept texts')
    await writeWhole(disk, path, Buffer.from(text), 'kept text')
    await disk.syncDirectory(folder, 'name of a kept text')
  } catch (error) {
    throw fileFailure(error, path) ?? error
  }
}

export function kept(directory: string, name: string): Promise<string | undefined> {
  return readTextIfThere(join(directory, name))
}

/** The error for a process that still derives although its engine has ended. */
export const stillDeriving = (directory: string) =>
  retryError(
    'data-in-use',
    `A process of an engine that has ended still derives in ${resolve(directory)}. It ends by itself as ` +
      'soon as it notices; if it does not, stop it: it holds `state/deriving.lock`.',
  )

export const dataUnusable = (directory: string, cause: unknown) =>
  operatorError(
    'data-unusable',
    fileFailure(cause, resolve(directory))?.message ??
      `The data directory ${resolve(directory)} cannot be used: ${unended(thrownText(cause))}.`,
    { cause },
  )

import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { open as openFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { open, type RootDatabase } from 'lmdb'
import { HenceError, operatorError } from '../failure.ts'
import { fileFailure } from '../file-failure.ts'
import { LmdbFile, stateFormat, Useless } from './lmdb-file.ts'

/** The directories of stores that this process reads beside the store itself: they share one environment. */
export const readElsewhere: string[] = []

export class OtherReader {
  readonly root: RootDatabase
  readonly #directory: string

  constructor(directory: string) {
    tryFiles(directory, true)
    this.root = open({ path: directory, noSubdir: false, maxDbs: 1, readOnly: true })
    this.#directory = directory
    readElsewhere.push(directory)
  }

  async close(): Promise<void> {
    await this.root.close()
    readElsewhere.splice(readElsewhere.indexOf(this.#directory), 1)
  }
}

/**
 * Checks that LMDB can map its file: the binding ends the process by a signal where the file is shorter than
 * its header says, is not LMDB's, or has another format.
 * @returns whether there is anything in it
 */
export function checkHeader(directory: string): boolean {
  const folder = statSync(directory, { throwIfNoEntry: false })
  if (folder?.isDirectory() === false) throw new Useless('it is no folder')
  if (statSync(join(directory, 'lock.mdb'), { throwIfNoEntry: false })?.isDirectory())
    throw new Useless('lock.mdb is a folder')
  let file: LmdbFile | undefined
  try {
    file = LmdbFile.open(join(directory, 'data.mdb'))
    // A process that was killed before its first commit leaves an empty file.
    if (file === undefined || file.bytes === 0) return false
    file.header()
    return true
  } finally {
    file?.close()
  }
}

/** Opens and writes a store's files as LMDB does, whose binding ends the process where that fails. */
export function tryFiles(directory: string, readOnly = false): void {
  const path = join(directory, 'data.mdb')
  const files: number[] = []
  const isNew = !existsSync(path)
  try {
    if (!readOnly) mkdirSync(directory, { recursive: true, mode: 0o700 })
    const flags = readOnly ? constants.O_RDONLY : constants.O_RDWR | constants.O_CREAT
    // As many as LMDB opens. Closing its lock file would release the locks that this process has.
    for (const each of [path, path, path]) files.push(openSync(each, flags, 0o600))
    const lock = join(directory, 'lock.mdb')
    if (existsSync(lock)) accessSync(lock, readOnly ? constants.R_OK : constants.W_OK)
    if (isNew) writeSync(files[1]!, Buffer.alloc(newBytes), 0, newBytes, 0)
  } finally {
    for (const file of files) closeSync(file)
    // LMDB's binding fails over an empty file.
    if (isNew) rmSync(path, { force: true })
  }
}

/**
 * Writes as many bytes beside a store, and removes them: a disk that is full or fails shows itself here, and
 * not to LMDB, whose binding writes beyond its memory when a write fails (a message longer than its 100
 * bytes).
 */
export async function tryWrite(directory: string, bytes: number): Promise<void> {
  const path = join(directory, 'trial')
  const file = await openFile(path, 'w', 0o600)
  try {
    const zeros = Buffer.alloc(newBytes)
    for (let at = 0; at <= bytes; at += newBytes) await file.write(zeros, 0, newBytes, at)
  } finally {
    await file.close()
    await rm(path, { force: true })
  }
}

/** Not less than LMDB writes to a new file: two of the largest pages that a machine has. */
const newBytes = 128 * 1024

export function requireFormat(format: string): void {
  if (format === stateFormat) return
  throw new Useless(`it has format ${format}, and this version of Hence writes format ${stateFormat}`)
}

export function unreadable(directory: string, cause: unknown): HenceError {
  if (cause instanceof HenceError) return cause
  // A full disk is no damage, and nobody should remove the state for it.
  const failure = fileFailure(cause)
  if (failure) return failure
  return operatorError(
    'state-unreadable',
    `The derived state in ${directory} cannot be read: ${cause instanceof Error ? cause.message : cause}. ` +
      'Everything in it can be derived from the log: the next start does so if it finds the same. ' +
      'Otherwise stop the process, remove that folder, and start again.',
    { cause },
  )
}

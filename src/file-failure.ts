import { type HenceError, operatorError, thrownText, unended } from './failure.ts'

/** By the errno of a failed call to the file system: the reason, and the action. */
const reasons: Readonly<Record<string, readonly [reason: string, todo: string]>> = {
  ENOSPC: ['the disk is full', 'Free space, or move the directory to a larger disk.'],
  EDQUOT: ['the quota of this user is used up', 'Free space, or raise the quota.'],
  EROFS: ['the disk is read-only', 'Mount it for writing; a disk with errors is often mounted like this.'],
  EACCES: ['this process may not use it', 'Give its user the right to read and write there.'],
  EPERM: ['this process may not use it', 'Give its user the right to read and write there.'],
  EMFILE: ['this process has too many files open', 'Raise its limit, for example with `ulimit -n 4096`.'],
  ENFILE: ['this machine has too many files open', 'Raise its limit, or stop what holds them.'],
  EIO: [
    'the device failed',
    'Look at the log of the kernel, and copy the data while the device can be read.',
  ],
  ENOTDIR: ['a file stands where a folder must be', 'Move the file away.'],
  EISDIR: ['a folder stands where a file must be', 'Move the folder away.'],
  ENOENT: ['it is not there', 'Put it back, or correct the path.'],
}

const isOfWriting = new Set(['ENOSPC', 'EDQUOT', 'EROFS'])

/** An error of the operating system with the file that it is about: that of an open file names none. */
export function withPath(error: unknown, path: string): unknown {
  return error instanceof Error && 'syscall' in error ? Object.assign(error, { path }) : error
}

/** The reason, with the errno, and what to do; undefined for other errors than those of the file system. */
function reasonOf(error: unknown): { readonly reason: string; readonly todo: string } | undefined {
  if (!(error instanceof Error)) return undefined
  const { code, syscall, message } = error as NodeJS.ErrnoException
  if (code === undefined || syscall === undefined) return undefined
  const [reason, todo] = reasons[code] ?? [message, 'See that this process can read and write there.']
  return { reason: `${reason} (${code})`, todo }
}

/** The reason and what to do, as the end of a sentence and another one; the text of other errors alone. */
export function reasonText(error: unknown): string {
  const found = reasonOf(error)
  return found === undefined ? `${unended(thrownText(error))}.` : `${found.reason}. ${found.todo}`
}

/**
 * The meaning of a failed call to the file system: which file, why, and what to do. Undefined for other
 * errors.
 * @param file if the error names none: a write to an open file has no path
 * @returns HenceError `file-unusable` (operator)
 */
export function fileFailure(error: unknown, file = 'A file'): HenceError | undefined {
  const found = reasonOf(error)
  if (found === undefined) return undefined
  const { code, path, dest } = error as NodeJS.ErrnoException & { readonly dest?: string }
  // Of a copy or a rename it is the new file that cannot be written.
  const where = (isOfWriting.has(code!) ? dest : undefined) ?? path ?? file
  return operatorError('file-unusable', `${where} cannot be used: ${found.reason}. ${found.todo}`, {
    cause: error,
  })
}

/** @throws HenceError `file-unusable` (operator) instead of the error of a failed call to the file system */
export async function withFileFailure<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    throw fileFailure(error) ?? error
  }
}

/**
 * Returns the result of a call about a path; undefined if there is nothing. No other failure shows that:
 * where a disk that fails counted as an empty one, a copy would lack files, and look whole.
 * @throws HenceError `file-unusable` (operator)
 */
export async function ifThere<T>(call: Promise<T>): Promise<T | undefined> {
  return withFileFailure(
    call.catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
      throw error
    }),
  )
}

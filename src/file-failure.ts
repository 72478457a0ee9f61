import { type HenceError, operatorError } from './failure.ts'

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

/**
 * The meaning of a failed call to the file system: which file, why, and what to do. Undefined for other
 * errors.
 * @returns HenceError `file-unusable` (operator)
 */
export function fileFailure(error: unknown): HenceError | undefined {
  if (!(error instanceof Error)) return undefined
  const { code, syscall, path, message } = error as NodeJS.ErrnoException
  if (code === undefined || syscall === undefined) return undefined
  const [reason, todo] = reasons[code] ?? [message, 'See that this process can read and write there.']
  const where = path === undefined ? 'A file' : path
  return operatorError('file-unusable', `${where} cannot be used: ${reason} (${code}). ${todo}`, {
    cause: error,
  })
}

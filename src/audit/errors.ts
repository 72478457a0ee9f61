import { operatorError, retryError } from '../failure.ts'
import { reasonText } from '../file-failure.ts'

export const mismatch = (partition: number, size: number, what: string) =>
  operatorError(
    'head-mismatch',
    `The last signed tree head covers ${size} records of partition ${partition}, but ${what}. ` +
      'The log was changed after it was signed. No more heads are signed; `hence verify` shows where it differs.',
  )

export const otherLog = (signed: string, found: string) =>
  operatorError(
    'head-mismatch',
    `The last signed tree head is of log ${signed}, and this is log ${found}. No more heads are signed. ` +
      'Put back the folder `audit` that belongs to this log, or start without it.',
  )

/** Whether a file could not be written or read this time; the bytes before are as they were. */
export const isOfDisk = (error: unknown): boolean => error instanceof Error && 'syscall' in error

export const heldUp = (cause: unknown) =>
  retryError(
    'audit-held-up',
    `Tree heads cannot be stored: ${reasonText(cause)} It is tried again, at least every minute. ` +
      'Requests are still accepted; receipts wait.',
    { cause },
  )

export const failed = (cause: unknown) =>
  operatorError(
    'audit-failed',
    `Tree heads are no longer signed: ${reasonText(cause)} Requests are still accepted. ` +
      'Remove the cause and start the engine again.',
    { cause },
  )

import fs from 'node:fs'
import { join } from 'node:path'

/** A start writes some kilobytes, and what it keeps of the app's code. */
const reserveBytes = 1024 * 1024

const pathIn = (directory: string) => join(directory, 'reserve')

/** Makes a file of zeros, as large as the disk allows, whose space a later start can use. */
export function makeReserve(directory: string): void {
  const zeros = Buffer.alloc(64 * 1024)
  try {
    const file = fs.openSync(pathIn(directory), 'a', 0o600)
    try {
      while (fs.fstatSync(file).size < reserveBytes) fs.writeSync(file, zeros)
    } finally {
      fs.closeSync(file)
    }
  } catch {
    // The disk is full now, and what was written is kept.
  }
}

/** Removes that file if the disk is nearly full. */
export function useReserve(directory: string): void {
  const { bavail, bsize } = fs.statfsSync(directory)
  if (bavail * bsize < reserveBytes) fs.rmSync(pathIn(directory), { force: true })
}

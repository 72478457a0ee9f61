import { join } from 'node:path'
import { type Disk, withFile, writeWhole } from './disk.ts'
import { readBytes } from './segment-scan.ts'

/** The position in the carrier of a live batch that the copy has, and its hash. */
export interface KnownBatch {
  readonly position: number
  readonly hash: Buffer
}

/**
 * `carrier.json` in the folder of a log says that the log is a copy, and of what:
 *
 *   {"carrier":"…","known":[{"position":17,"hash":"…"},null]}
 *
 * `known` has one batch of each partition, from which the next opening reads on. An older one is right too.
 */
export interface CarrierNote {
  readonly carrier: string
  readonly known: readonly (KnownBatch | undefined)[]
}

const name = 'carrier.json'

export const notePath = (folder: string): string => join(folder, name)

/** Reads the note in the folder of a log; undefined if the log is not a copy. */
export async function readNote(disk: Disk, folder: string): Promise<CarrierNote | undefined> {
  if (!(await disk.list(folder))?.includes(name)) return undefined
  return withFile(disk, notePath(folder), 'read', async (file) => {
    try {
      const text = (await readBytes(file, 0, await file.size())).toString()
      const { carrier, known } = JSON.parse(text) as {
        carrier: string
        known: ({ position: number; hash: string } | null)[]
      }
      const read = known.map((each) => each && { ...each, hash: Buffer.from(each.hash, 'hex') })
      return { carrier: String(carrier), known: read.map((each) => each ?? undefined) }
    } catch {
      // Its presence says that the log is a copy; the rest only saves reading.
      return { carrier: 'a carrier', known: [] }
    }
  })
}

export async function writeNote(disk: Disk, folder: string, { carrier, known }: CarrierNote): Promise<void> {
  const read = known.map((each) => each && { position: each.position, hash: each.hash.toString('hex') })
  const text = JSON.stringify({ carrier, known: read })
  await writeWhole(disk, notePath(folder), Buffer.from(text), 'carrier note')
  await disk.syncDirectory(folder, 'carrier note')
}

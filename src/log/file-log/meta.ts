import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { operatorError } from '../../failure.ts'
import { damaged } from './damage.ts'
import { type Disk, withFile, writeWhole } from './disk.ts'
import { readBytes } from './segment-scan.ts'

/**
 * The facts about a log that never change, in `meta.json`. It is written last when a log is made: a log
 * without it was not finished, and never held a record. The file is this one line of JSON; Hence accepts
 * nothing else:
 *
 *   {"format":"hence-log","version":2,"logId":"…","partitions":8,"checksum":"…"}
 *
 * The checksum is the CRC-32, in eight hexadecimal digits, of the same line without its last member.
 */
export interface Meta {
  /** 32 lower-case hexadecimal digits. */
  readonly logId: string
  readonly partitions: number
}

const name = 'meta.json'
const version = 2

export const metaPath = (directory: string): string => join(directory, name)

/** Reads `meta.json` in the folder of a log; undefined if there is none. */
export async function readMeta(disk: Disk, directory: string): Promise<Meta | undefined> {
  if (!(await disk.list(directory))?.includes(name)) return undefined
  const path = metaPath(directory)
  const bytes = await withFile(disk, path, 'read', async (file) =>
    readBytes(file, 0, Math.min(await file.size(), 1024)),
  )
  const text = bytes.toString('latin1')
  let meta: Partial<Meta> & { readonly version?: unknown }
  try {
    meta = JSON.parse(text)
  } catch {
    throw damaged(path, 0, 'it is not JSON')
  }
  const { logId, partitions } = meta
  if (typeof logId !== 'string' || typeof partitions !== 'number') {
    throw damaged(path, 0, 'the log id or the number of partitions is missing')
  }
  if (text === metaText({ logId, partitions }, version)) return { logId, partitions }
  if (typeof meta.version === 'number' && text === metaText({ logId, partitions }, meta.version)) {
    throw operatorError(
      'log-format-unknown',
      `${path} says that the log has format version ${meta.version}, but this version of Hence knows only ` +
        `${version}. Open it with the version of Hence that made it.`,
    )
  }
  throw damaged(path, 0, 'its checksum does not match')
}

/** Writes the file whole or not at all; its name is not durable yet. */
export async function writeMeta(disk: Disk, directory: string, meta: Meta): Promise<void> {
  await writeWhole(disk, metaPath(directory), Buffer.from(metaText(meta, version), 'latin1'), 'meta')
}

function metaText({ logId, partitions }: Meta, formatVersion: number): string {
  const line = JSON.stringify({ format: 'hence-log', version: formatVersion, logId, partitions })
  const checksum = crc32(line).toString(16).padStart(8, '0')
  return `${line.slice(0, -1)},"checksum":"${checksum}"}\n`
}

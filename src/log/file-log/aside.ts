import { basename, dirname, join } from 'node:path'
import { makeDirectories } from './disk.ts'
import type { PartitionFiles } from './partition-files.ts'
import { readBytes } from './segment-scan.ts'

/** Bytes of a segment that are about to be removed from it. */
interface Removal {
  readonly path: string
  readonly from: number
  /** The position after the last byte; `Infinity` for the end of the file. */
  readonly to: number
}

/**
 * Copies bytes into `log/torn` or `log/damaged` before recovery or a repair removes them. Hence never reads a
 * copy again and never overwrites an earlier one: the copies of one call share the next free number.
 * @returns the paths of the copies, which are durable
 */
export async function copyAside(
  { disk, directory }: PartitionFiles,
  kind: 'torn' | 'damaged',
  removals: readonly Removal[],
): Promise<string[]> {
  const folder = join(dirname(directory), kind)
  const label = `${kind} copy`
  await makeDirectories(disk, folder, label)
  const taken = (await disk.list(folder))!.map((name) => Number.parseInt(name, 10) || 0)
  const number = String(Math.max(0, ...taken) + 1).padStart(4, '0')
  const copies: string[] = []
  for (const { path, from, to } of removals) {
    const source = await disk.open(path, 'read')
    try {
      const copy = join(folder, `${number}-${basename(directory)}-${basename(path)}`)
      const file = await disk.open(copy, 'create')
      try {
        await file.write(await readBytes(source, from, Math.min(to, await source.size())), 0)
        await file.sync(label)
      } finally {
        await file.close()
      }
      copies.push(copy)
    } finally {
      await source.close()
    }
  }
  await disk.syncDirectory(folder, label)
  return copies
}

import { basename, dirname, join } from 'node:path'
import { assert } from '../../assert.ts'
import type { Report, Reporter } from '../../report.ts'
import { makeDirectories, withFile } from './disk.ts'
import type { Findings } from './inspection.ts'
import type { PartitionFiles } from './partition-files.ts'
import { readBytes } from './segment-scan.ts'

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
    const bytes = await withFile(disk, path, 'read', async (source) =>
      readBytes(source, from, Math.min(to, await source.size())),
    )
    const copy = join(folder, `${number}-${basename(directory)}-${basename(path)}`)
    await withFile(disk, copy, 'create', async (file) => {
      await file.write(bytes, 0)
      await file.sync(label)
    })
    copies.push(copy)
  }
  await disk.syncDirectory(folder, label)
  return copies
}

/**
 * Repairs what a crash left: cuts a torn tail off, and makes durable everything that was found. A file may
 * hold bytes that are not on the disk yet, if only the process died and the machine kept running.
 */
export async function mend(files: PartitionFiles, findings: Findings, report: Reporter): Promise<void> {
  const { disk, directory } = files
  const { tip, tornEnd, lastBatch } = findings
  assert(tornEnd >= tip.position, 'a torn end is after the last whole batch', tornEnd, tip.position)
  const { path } = findings.segments.at(-1)!
  if (findings.unused !== undefined) await disk.remove(findings.unused.path)
  await disk.syncDirectory(directory, 'recovered names')

  if (lastBatch !== undefined) {
    await withFile(disk, lastBatch.path, 'write', async (file) => {
      // Written again: after a failed fsync the system may take a page for clean that it never wrote.
      await file.write(await readBytes(file, lastBatch.from, lastBatch.to), lastBatch.from)
      await file.sync('recovered batch')
    })
  }
  if (tornEnd === tip.position) return
  const [copy] = files.isCopy
    ? []
    : await copyAside(files, 'torn', [{ path, from: tip.position, to: tornEnd }])
  const bytes = tornEnd - tip.position
  await withFile(disk, path, 'write', async (file) => {
    await file.write(Buffer.alloc(bytes), tip.position)
    // A later batch makes its own bytes durable, and not the zeros behind it.
    await file.sync('recovered batch')
  })
  if (copy !== undefined) report(tornReport(path, tip.position, bytes, copy))
}

function tornReport(path: string, byte: number, bytes: number, copy: string): Report {
  return {
    level: 'warning',
    code: 'log-torn-tail',
    message:
      `An unfinished write at the end of ${path}, byte ${byte}, was cut off (${bytes} bytes; copied to ${copy}). ` +
      'It was never acknowledged: a crash had interrupted it. Nothing needs to be done.',
  }
}

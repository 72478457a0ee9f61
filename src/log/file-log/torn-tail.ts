import { assert } from '../../assert.ts'
import type { Report, Reporter } from '../../report.ts'
import { copyAside } from './aside.ts'
import type { Findings } from './inspection.ts'
import type { PartitionFiles } from './partition-files.ts'
import { readBytes } from './segment-scan.ts'

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
    const file = await disk.open(lastBatch.path, 'write')
    try {
      // Written again: after a failed fsync the system may take a page for clean that it never wrote.
      await file.write(await readBytes(file, lastBatch.from, lastBatch.to), lastBatch.from)
      await file.sync('recovered batch')
    } finally {
      await file.close()
    }
  }
  if (tornEnd === tip.position) return
  const file = await disk.open(path, 'write')
  try {
    const [copy] = files.isCopy
      ? []
      : await copyAside(files, 'torn', [{ path, from: tip.position, to: tornEnd }])
    // The next batch in this file makes the zeros durable together with itself.
    const bytes = tornEnd - tip.position
    await file.write(Buffer.alloc(bytes), tip.position)
    if (copy !== undefined) report(tornReport(path, tip.position, bytes, copy))
  } finally {
    await file.close()
  }
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

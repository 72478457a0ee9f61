import { dirname, join } from 'node:path'
import { type Disk, makeDirectories } from '../../src/log/file-log/disk.ts'
import { simulatedDisk } from '../../src/testing/simulated-disk.ts'

/** A disk in memory, for tests of thousands of cases. It never fails and loses nothing. */
export function newDisk() {
  return simulatedDisk({ random: () => 0.5 })
}

/** All files below a directory, by path. */
export async function filesOf(disk: Disk, directory: string): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>()
  for (const name of (await disk.list(directory)) ?? []) {
    const path = join(directory, name)
    if ((await disk.list(path)) !== undefined) {
      for (const [inner, bytes] of await filesOf(disk, path)) files.set(inner, bytes)
    } else {
      const file = await disk.open(path, 'read')
      const bytes = Buffer.alloc(await file.size())
      await file.read(bytes, 0)
      files.set(path, bytes)
    }
  }
  return files
}

/** A new disk with these files on it. */
export async function diskWith(files: ReadonlyMap<string, Buffer>): Promise<Disk> {
  const disk = newDisk()
  for (const [path, bytes] of files) {
    await makeDirectories(disk, dirname(path), 'test')
    const file = await disk.open(path, 'create')
    await file.write(bytes, 0)
    await file.close()
  }
  return disk
}

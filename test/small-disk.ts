import { execFileSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'

/** Mounts a small file system, until the test ends; undefined where this process may not. */
export async function smallDisk(t: TestContext, kilobytes: number): Promise<string | undefined> {
  const folder = await mkdtemp(join(tmpdir(), 'hence-small-disk-'))
  let isMounted = false
  t.after(async () => {
    if (isMounted) execFileSync('umount', [folder])
    await rm(folder, { recursive: true, force: true })
  })
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${kilobytes}k`, 'none', folder], { stdio: 'ignore' })
  } catch {
    return undefined
  }
  isMounted = true
  return folder
}

import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

// Builds the console into dist/console; with --if-stale only if a source is newer than what is there.

const from = fileURLToPath(new URL('.', import.meta.url))
const built = join(from, '../dist/console/index.html')

if (!process.argv.includes('--if-stale') || (await isStale())) {
  const { build } = await import('vite')
  console.log('Building the console…')
  await build({ configFile: join(from, 'vite.config.ts'), logLevel: 'warn' })
}

async function isStale(): Promise<boolean> {
  const builtAt = await changedAt(built)
  const sources = await readdir(from, { recursive: true, withFileTypes: true })
  const files = sources.filter((each) => each.isFile()).map((each) => join(each.parentPath, each.name))
  const times = await Promise.all([...files, join(from, '../package-lock.json')].map(changedAt))
  return times.some((time) => time > builtAt)
}

/** When a file was written, in milliseconds since 1970; 0 if it is not there. */
async function changedAt(path: string): Promise<number> {
  return stat(path).then(
    ({ mtimeMs }) => mtimeMs,
    () => 0,
  )
}

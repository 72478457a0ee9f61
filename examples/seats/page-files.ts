import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

/** A file that the browser loads. */
export interface PageFile {
  readonly path: string
  readonly type: string
  readonly body: string
}

const folder = new URL('./page/', import.meta.url)

/** Bundles the page, and a service worker that caches exactly these files; a changed page has another worker. */
export async function pageFiles(): Promise<readonly PageFile[]> {
  const text = (name: string) => readFile(new URL(name, folder), 'utf8')
  const files: PageFile[] = [
    { path: '/', type: 'text/html; charset=utf-8', body: await text('index.html') },
    { path: '/page.css', type: 'text/css; charset=utf-8', body: await text('page.css') },
    { path: '/icon.svg', type: 'image/svg+xml', body: await text('icon.svg') },
    { path: '/page.js', type: script, body: await bundled('page.ts') },
  ]
  const hash = createHash('sha256')
  for (const { body } of files) hash.update(body)
  const worker = await bundled('service-worker.ts', {
    VERSION: JSON.stringify(hash.digest('hex').slice(0, 16)),
    PATHS: JSON.stringify(files.map(({ path }) => path)),
  })
  return [...files, { path: '/service-worker.js', type: script, body: worker }]
}

const script = 'text/javascript; charset=utf-8'

async function bundled(name: string, define: Record<string, string> = {}): Promise<string> {
  const built = await build({
    entryPoints: [fileURLToPath(new URL(name, folder))],
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    logLevel: 'silent',
    legalComments: 'none',
    define,
    // The client that this process would import: the sources here, the package elsewhere.
    alias: { 'hence/client': fileURLToPath(import.meta.resolve('hence/client')) },
  })
  return built.outputFiles[0]!.text
}

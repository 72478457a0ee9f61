import { readdir, readFile } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { brotliCompress } from 'node:zlib'
import { changeError, operatorError } from '../failure.ts'
import type { Answer } from './answer.ts'
import type { Arrival } from './route.ts'

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
}

/** Scripts and styles are files of the console, and it sends to this server alone. */
const policy =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

/** Where the built console is: in the package, and in the repository. */
const folders = ['../console', '../../dist/console'].map((path) =>
  fileURLToPath(new URL(path, import.meta.url)),
)

interface File {
  readonly text: string
  compressed?: Promise<Buffer>
}

/** `GET /console/…`: the files of the console. Every address of one part is a view of its single page. */
export function consoleFiles() {
  let found: Promise<ReadonlyMap<string, File>> | undefined
  return async ({ request, parts }: Arrival): Promise<Answer> => {
    // Addresses in the page are relative, so that it works below any path, also one that a proxy strips.
    if (parts.length === 0) return { status: 308, headers: { location: 'console/' }, body: null }
    found ??= filesIn(folders)
    const files = await found
    if (files.size === 0) {
      found = undefined
      throw operatorError(
        'console-not-built',
        'The files of the console are not there. In the repository, build them with `npm run build:console`.',
      )
    }
    const path = parts.join('/')
    const isView = parts.length === 1 && extname(path) === ''
    const name = isView ? 'index.html' : path
    const file = files.get(name)
    if (file === undefined) {
      throw changeError('route-not-found', `The console has no file ${JSON.stringify(path)}.`)
    }
    const headers = {
      'content-type': types[extname(name)] ?? 'application/octet-stream',
      'cache-control': isView ? 'no-cache' : 'public, max-age=31536000, immutable',
      'content-security-policy': policy,
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      vary: 'accept-encoding',
    }
    if (!/\bbr\b/.test(request.headers.get('accept-encoding') ?? '')) {
      return { status: 200, headers, body: file.text }
    }
    file.compressed ??= promisify(brotliCompress)(file.text)
    const body = new Blob([new Uint8Array(await file.compressed)]).stream()
    return { status: 200, headers: { ...headers, 'content-encoding': 'br' }, body }
  }
}

/** The files of the first folder that is there, by their path in it with slashes. */
async function filesIn([folder, ...more]: readonly string[]): Promise<ReadonlyMap<string, File>> {
  if (folder === undefined) return new Map()
  const names = await readdir(folder, { recursive: true }).catch(() => [])
  const files = new Map<string, File>()
  for (const name of names.filter((name) => extname(name) in types)) {
    files.set(name.replaceAll('\\', '/'), { text: await readFile(join(folder, name), 'utf8') })
  }
  return files.has('index.html') ? files : filesIn(more)
}

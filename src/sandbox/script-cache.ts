import { hash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'

/** So many are kept, of some kilobytes: those of the last versions of an app, and of its tests. */
const filesMax = 256

/** Keeps what was made from scripts in `node_modules/.cache/hence`, if that can be written. */
export class ScriptCache {
  readonly #folder: string | undefined

  /** @param folder undefined: nothing is kept */
  constructor(folder: string | undefined = cacheFolder(import.meta.dirname)) {
    this.#folder = folder
  }

  /**
   * Returns what was made from a script, or makes it.
   * @param how names the way it is made: what another way made is not returned
   */
  made(code: string, how: string, make: (code: string) => string): string {
    if (this.#folder === undefined) return make(code)
    const path = join(this.#folder, hashOf(`${how}\n${code}`))
    const kept = read(path)
    if (kept !== undefined) return kept
    const made = make(code)
    try {
      mkdirSync(this.#folder, { recursive: true })
      const unfinished = `${path}.${process.pid}`
      writeFileSync(unfinished, `${hashOf(made)}\n${made}`)
      renameSync(unfinished, path)
      this.#removeOldest(this.#folder)
    } catch {
      // It is made again next time.
    }
    return made
  }

  #removeOldest(folder: string): void {
    const paths = readdirSync(folder).map((name) => join(folder, name))
    if (paths.length <= filesMax) return
    const times = new Map(paths.map((path) => [path, statSync(path).mtimeMs]))
    const byAge = paths.sort((a, b) => times.get(a)! - times.get(b)!)
    for (const path of byAge.slice(0, paths.length - filesMax)) rmSync(path, { force: true })
  }
}

/** The text that a file holds behind its hash; undefined if it is not whole. */
function read(path: string): string | undefined {
  try {
    const text = readFileSync(path, 'utf8')
    const end = text.indexOf('\n')
    const made = text.slice(end + 1)
    return hashOf(made) === text.slice(0, end) ? made : undefined
  } catch {
    return undefined
  }
}

function cacheFolder(from: string): string | undefined {
  for (let folder = from; folder !== dirname(folder); folder = dirname(folder)) {
    const modules = join(folder, 'node_modules')
    if (existsSync(modules)) return join(modules, '.cache', 'hence')
  }
  return undefined
}

const hashOf = (text: string): string => hash('sha256', text)

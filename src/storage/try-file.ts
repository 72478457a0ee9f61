import fs from 'node:fs'
import { join } from 'node:path'

/** How many lines more than needed the file may have. */
const spareLines = 10_000

/**
 * A file with the tries of effects that wait, so that the next process knows them. It is not synced: the page
 * cache outlives a process that a handler has ended, and after a loss of power effects have some tries more.
 *
 * A line is the id of an effect, how often it was tried, and `+` while a try is under way or `-` after one
 * that failed; 0 tries mean that it has ended. The last line of an effect counts.
 */
export class TryFile {
  readonly #path: string
  #file: number | undefined
  #lines = 0
  readonly #known = new Map<string, { readonly tries: number; readonly isUnderWay: boolean }>()

  constructor(directory: string) {
    this.#path = join(directory, 'state/tries')
    for (const line of readLines(this.#path)) {
      const [, id, tries, sign] = /^(\S+) (\d{1,9}) ([+-])$/.exec(line) ?? []
      if (id !== undefined) this.#set(id, Number(tries), sign === '+')
    }
    this.#rewrite()
  }

  of(id: string): { readonly tries: number; readonly isUnderWay: boolean } | undefined {
    return this.#known.get(id)
  }

  began(id: string, tries: number): void {
    this.#note(id, tries, true)
  }

  failed(id: string, tries: number): void {
    this.#note(id, tries, false)
  }

  ended(id: string): void {
    if (this.#known.has(id)) this.#note(id, 0, false)
  }

  keepOnly(isPending: (id: string) => boolean): void {
    for (const id of this.#known.keys()) if (!isPending(id)) this.#known.delete(id)
    this.#rewrite()
  }

  close(): void {
    if (this.#file !== undefined) fs.closeSync(this.#file)
    this.#file = undefined
  }

  #note(id: string, tries: number, isUnderWay: boolean): void {
    this.#set(id, tries, isUnderWay)
    if (this.#lines > 2 * this.#known.size + spareLines) {
      this.#rewrite()
      return
    }
    this.#lines++
    attempt(() => {
      if (this.#file !== undefined) fs.writeSync(this.#file, lineOf(id, tries, isUnderWay))
    })
  }

  #set(id: string, tries: number, isUnderWay: boolean): void {
    if (tries === 0) this.#known.delete(id)
    else this.#known.set(id, { tries, isUnderWay })
  }

  #rewrite(): void {
    attempt(() => {
      const lines = [...this.#known].map(([id, { tries, isUnderWay }]) => lineOf(id, tries, isUnderWay))
      fs.writeFileSync(`${this.#path}.unfinished`, lines.join(''), { mode: 0o600 })
      fs.renameSync(`${this.#path}.unfinished`, this.#path)
      this.close()
      this.#file = fs.openSync(this.#path, 'a', 0o600)
      this.#lines = lines.length
    })
  }
}

function lineOf(id: string, tries: number, isUnderWay: boolean): string {
  return `${id} ${tries} ${isUnderWay ? '+' : '-'}\n`
}

function readLines(path: string): string[] {
  try {
    return fs.readFileSync(path, 'utf8').split('\n')
  } catch {
    return []
  }
}

/** A disk that is full or fails is reported by whatever must be written. Then some tries are not remembered. */
function attempt(write: () => void): void {
  try {
    write()
  } catch {}
}

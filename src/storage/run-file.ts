import fs from 'node:fs'
import { dirname, join } from 'node:path'

/** A record that a process was deriving when it ended. */
interface Suspect {
  readonly partition: number
  readonly offset: number
  /** Names a message that comes before that record, see `Ruling`; or the rows that it was folded into. */
  readonly between?: string | undefined
  /** How many processes in a row began to derive it and did not get to its end. */
  readonly begun: number
}

const runName = 'state/run.json'
/** The same for the process that derives a candidate generation. */
export const derivingRunName = 'state/deriving.json'
/** The same for the folds of views, which the process of the engine runs beside derivations. */
export const foldingRunName = 'state/folding.json'

/**
 * A file that exists while a process has the directory open, so that the next process knows whether this one
 * closed it. If it did not, the file also names the record that was being derived. It is not synced: the page
 * cache outlives a process, and a loss of power should not be held against a record.
 */
export class RunFile {
  /** Whether the process before this one ended without closing the directory. */
  readonly died: boolean
  readonly #path: string
  readonly #suspect: Suspect | undefined
  readonly #file: number

  static open(directory: string, name: string = runName): RunFile {
    const path = join(directory, name)
    fs.mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    const before = readSuspect(directory, name)
    return new RunFile(path, before !== 'none', before === 'none' ? undefined : before)
  }

  private constructor(path: string, died: boolean, suspect: Suspect | undefined) {
    this.#path = path
    this.died = died
    this.#suspect = suspect
    this.#file = fs.openSync(path, 'w', 0o600)
    this.#write(suspect ?? {})
  }

  /** Whether the process before this one died while it had such a message in work. */
  suspects(between: string): boolean {
    return this.#suspect?.between === between
  }

  /** Notes that this process begins to derive a message. Returns how many processes have begun it. */
  begins({ partition, offset, between }: Omit<Suspect, 'begun'>): number {
    const before = this.#suspect
    const isSame = before?.partition === partition && before.offset === offset && before.between === between
    const begun = isSame ? before.begun + 1 : 1
    this.#write({ partition, offset, begun, between })
    return begun
  }

  /** Notes that no record is being derived. */
  ended(): void {
    this.#write({})
  }

  /** Removes the file, since the process closes the directory. */
  close(): void {
    this.leave()
    fs.rmSync(this.#path, { force: true })
  }

  /** Closes the file, which stays as it is: the directory could not be opened. */
  leave(): void {
    fs.closeSync(this.#file)
  }

  #write(content: object): void {
    try {
      // Always of the same length, so that one write replaces all of it.
      fs.writeSync(this.#file, JSON.stringify(content).padEnd(256), 0)
    } catch {
      // It is written while a record is derived, which must not fail for a full disk. Without the note a
      // death here is not counted; an old note suspects another record, which is derived apart then.
    }
  }
}

/** The record that a process was deriving when it died; undefined if there was none; `none` if no process died. */
export function readSuspect(directory: string, name: string = runName): Suspect | undefined | 'none' {
  let text: string
  try {
    text = fs.readFileSync(join(directory, name), 'utf8')
  } catch {
    return 'none'
  }
  try {
    const { partition, offset, begun, between } = JSON.parse(text) as Partial<Suspect>
    const isWhole = [partition, offset, begun].every((each) => Number.isSafeInteger(each))
    return isWhole ? { partition: partition!, offset: offset!, begun: begun!, between } : undefined
  } catch {
    return undefined
  }
}

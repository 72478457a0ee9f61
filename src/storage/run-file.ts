import fs from 'node:fs'
import { dirname, join } from 'node:path'

/** A record that a process was deriving when it ended. */
interface Suspect {
  readonly partition: number
  readonly offset: number
  /** How many processes in a row began to derive it; without those that ended it. */
  readonly begun: number
}

/** The name of the file in a data directory. */
const runName = 'state/run.json'

/**
 * A file that exists while a process has the directory open, so that the next one knows whether it ended by itself. After a
 * process that did not, it also says which record was being derived. It is not synced: the page cache outlives a process, and
 * a machine that loses power condemns no record.
 */
export class RunFile {
  /** Whether the process before this one ended without closing the directory. */
  readonly died: boolean
  readonly #path: string
  readonly #suspect: Suspect | undefined
  readonly #file: number

  static open(directory: string): RunFile {
    const path = join(directory, runName)
    fs.mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    const before = readSuspect(directory)
    return new RunFile(path, before !== 'none', before === 'none' ? undefined : before)
  }

  private constructor(path: string, died: boolean, suspect: Suspect | undefined) {
    this.#path = path
    this.died = died
    this.#suspect = suspect
    this.#file = fs.openSync(path, 'w', 0o600)
    this.#write(suspect ?? {})
  }

  /** This process begins to derive a record. Returns how many have, this one included. */
  begins(partition: number, offset: number): number {
    const before = this.#suspect
    const isSame = before?.partition === partition && before.offset === offset
    const begun = isSame ? before.begun + 1 : 1
    this.#write({ partition, offset, begun })
    return begun
  }

  /** Nothing is being derived that could end the process unexplained. */
  ended(): void {
    this.#write({})
  }

  /** The process closes the directory. */
  close(): void {
    fs.closeSync(this.#file)
    fs.rmSync(this.#path, { force: true })
  }

  #write(content: object): void {
    // Of one length, so that one write replaces all of it.
    fs.writeSync(this.#file, JSON.stringify(content).padEnd(96), 0)
  }
}

/** The suspect that a process has left; undefined: it left none; `none`: no process has left anything. */
export function readSuspect(directory: string): Suspect | undefined | 'none' {
  let text: string
  try {
    text = fs.readFileSync(join(directory, runName), 'utf8')
  } catch {
    return 'none'
  }
  try {
    const { partition, offset, begun } = JSON.parse(text) as Partial<Suspect>
    const isWhole = [partition, offset, begun].every((each) => Number.isSafeInteger(each))
    return isWhole ? { partition: partition!, offset: offset!, begun: begun! } : undefined
  } catch {
    return undefined
  }
}

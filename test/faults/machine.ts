import { Running } from '../hence-process.ts'

/** A machine that starts an app again and again, on a log that others share. */
export class Machine {
  readonly data: string
  readonly url: string
  readonly #args: readonly string[]
  process!: Running

  constructor(app: string, place: { readonly data: string; readonly log: string; readonly port: number }) {
    const { data, log, port } = place
    this.data = data
    this.url = `http://127.0.0.1:${port}`
    const options = ['--data', data, '--log', log, '--partitions', '2', '--port', `${port}`]
    this.#args = ['start', app, ...options, '--open', '--json']
  }

  start(): void {
    this.process = new Running(this.#args)
  }

  /** Ends it, if it runs still. */
  end(): void {
    this.process?.process.kill('SIGKILL')
  }

  isActive(): Promise<string> {
    return this.process.line(/"listening"/)
  }

  /** Waits until it follows another machine. */
  async follows(other: Machine): Promise<void> {
    await this.process.error(new RegExp(`Following ${other.url}`))
  }
}

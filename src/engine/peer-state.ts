import { open } from 'node:fs/promises'
import { setTimeout as pause } from 'node:timers/promises'
import { Exchange, notUnderstood, problemOf } from '../client/exchange.ts'
import { HenceError, retryError, thrownText } from '../failure.ts'
import type { Reporter } from '../report.ts'

interface Peer {
  /** Where its server is mounted. */
  readonly url: string
  readonly key: string | undefined
  readonly report: Reporter
  readonly signal: AbortSignal | undefined
}

type Adopt = (generation: number, write: (path: string) => Promise<void>) => Promise<void>

/** How often a copy is begun, and the time between, in milliseconds. */
const triesMax = 3
const againMs = 1_000
/** How long the peer may take to copy its state before it sends it; then, how long it may send nothing. */
const beginsMsMax = 60_000
const silentMsMax = 10_000
/** How often the progress is reported, in milliseconds. */
const sayMs = 5_000

export const isPeer = (from: string): boolean => /^https?:\/\//.test(from)

/**
 * Fetches the state of another process of a log, from the beginning again if the line is cut.
 * @param adopt takes the generation, and a function that writes the state to a file
 * @throws HenceError `server-unreachable`, `answer-not-understood` (retry), or that of the peer
 */
export async function withStateOf(peer: Peer, adopt: Adopt): Promise<void> {
  for (let tries = 1; ; tries++) {
    const silence = new Silence(peer)
    try {
      return await fetchState(peer, silence, adopt)
    } catch (error) {
      peer.signal?.throwIfAborted()
      const isWorthIt = error instanceof HenceError && error.advice === 'retry' && !silence.isOver
      if (!isWorthIt || tries === triesMax) throw error
      await pause(againMs, undefined, { signal: peer.signal })
    } finally {
      silence.end()
    }
  }
}

/** Ends a call whose answer does not come, or stops. */
class Silence {
  readonly signal: AbortSignal
  readonly #over = new AbortController()
  #timer: NodeJS.Timeout | undefined

  constructor({ signal }: Peer) {
    this.signal = signal ? AbortSignal.any([this.#over.signal, signal]) : this.#over.signal
    this.begins(beginsMsMax)
  }

  get isOver(): boolean {
    return this.#over.signal.aborted
  }

  begins(ms: number): void {
    this.end()
    this.#timer = setTimeout(() => this.#over.abort(), ms)
  }

  end(): void {
    clearTimeout(this.#timer)
  }
}

async function fetchState({ url, key, report }: Peer, silence: Silence, adopt: Adopt): Promise<void> {
  const exchange = new Exchange({ url, key })
  const headers = { 'accept-encoding': 'identity' }
  const response = await exchange.open({ path: '/state', headers, signal: silence.signal })
  const generation = Number(response.headers.get('hence-generation') ?? Number.NaN)
  const bytes = Number(response.headers.get('content-length') ?? Number.NaN)
  if (response.status !== 200 || !Number.isInteger(generation) || !Number.isInteger(bytes)) {
    const answer = await exchange.read(response)
    throw problemOf(answer) ?? notUnderstood(answer)
  }
  await adopt(generation, async (path) => {
    const file = await open(path, 'w', 0o600)
    try {
      let saidAt = performance.now()
      let done = 0
      for await (const part of read(response.body!, url)) {
        silence.begins(silentMsMax)
        await file.writeFile(part)
        done += part.length
        if (performance.now() - saidAt < sayMs) continue
        saidAt = performance.now()
        const message = `${inMiB(done)} of ${inMiB(bytes)} MiB of the state of ${url} are here.`
        report({ level: 'info', code: 'state-arriving', message })
      }
      if (done !== bytes) throw cutOff(url, `it ended after ${done} of ${bytes} bytes`)
      await file.sync()
    } finally {
      await file.close()
    }
  })
}

/** The parts of a body, with the error of one that breaks off. */
async function* read(body: ReadableStream<Uint8Array>, url: string): AsyncGenerator<Uint8Array> {
  try {
    yield* body
  } catch (error) {
    throw cutOff(url, thrownText(error))
  }
}

const cutOff = (url: string, why: string) =>
  retryError('server-unreachable', `The state of ${url} did not arrive whole: ${why}.`)

const inMiB = (bytes: number) => Math.ceil(bytes / 1024 / 1024)

import { setTimeout as delay } from 'node:timers/promises'
import { type Engine, HenceError, type Reply } from 'hence'
import type { Shop } from './shop.ts'
import type { Submission } from './submission.ts'

/** The outcomes of the requests, each counted once. */
export interface Tally {
  accepted: number
  rejected: number
  failed: number
  /** Requests that were decided before, or sent twice, and got their stored outcome. */
  duplicates: number
  /** The number of rejections by reason. */
  readonly reasons: Map<string, number>
}

export interface ImportOptions {
  /** Stops the import: sends nothing more, and waits for requests under way. */
  readonly signal: AbortSignal
  /** Called for every decided request. */
  readonly onDecided: () => void
  /** How many requests are under way at once. */
  readonly inFlightMax?: number
}

/** A request under way. */
interface Flight {
  readonly requestId: string
  /** The request whose decision it waits for before it is sent. */
  readonly turn: Promise<void> | undefined
  readonly decided: Promise<void>
}

/**
 * Sends requests, many at once, until each is decided. Requests about one invoice wait for each other, as a
 * client's do that acts on replies. So they arrive in order, whatever has to be sent again.
 *
 * It is safe to import the same requests again, for example after a crash: decided requests stay decided.
 *
 * @throws HenceError as `submit` does, when sending again does not help
 */
export async function importAll(
  engine: Pick<Engine<Shop>, 'submit'>,
  submissions: Iterable<Submission> | AsyncIterable<Submission>,
  { signal, onDecided, inFlightMax = 1024 }: ImportOptions,
): Promise<Tally> {
  const tally: Tally = { accepted: 0, rejected: 0, failed: 0, duplicates: 0, reasons: new Map() }
  const inFlight = new Set<Promise<void>>()
  const latest = new Map<string, Flight>()
  let failure: { readonly error: unknown } | undefined
  let landed = () => {}

  for await (const submission of submissions) {
    while (inFlight.size >= inFlightMax && !failure) {
      await new Promise<void>((resolve) => {
        landed = resolve
      })
    }
    if (signal.aborted || failure) break

    const { requestId, input } = submission
    const before = latest.get(input.number)
    // A retry does not wait for its first try, but for the request that the first try waits for.
    const turn = before?.requestId === requestId ? before.turn : before?.decided
    const flight = { requestId, turn, decided: send(submission, turn) }
    latest.set(input.number, flight)
    const done = flight.decided.catch((error) => {
      failure ??= { error }
    })
    inFlight.add(done)
    void done.then(() => {
      inFlight.delete(done)
      if (latest.get(input.number) === flight) latest.delete(input.number)
      landed()
    })
  }
  await Promise.all(inFlight)
  if (failure) throw failure.error
  return tally

  async function send(submission: Submission, turn: Promise<void> | undefined): Promise<void> {
    await turn
    const reply = await submitUntilDecided(engine, submission)
    if (reply.replayed) tally.duplicates++
    else tally[reply.status]++
    if (reply.status === 'rejected' && !reply.replayed) {
      tally.reasons.set(reply.reason, (tally.reasons.get(reply.reason) ?? 0) + 1)
    }
    onDecided()
  }
}

const triesMax = 12

async function submitUntilDecided(
  engine: Pick<Engine<Shop>, 'submit'>,
  { type, input, requestId, principal }: Submission,
): Promise<Reply> {
  for (let tries = 1; ; tries++) {
    try {
      // The compiler does not know that type and input come from one member of the union.
      return await engine.submit(type, input as never, { requestId, principal })
    } catch (error) {
      const again = error instanceof HenceError && error.advice === 'retry' && tries < triesMax
      if (!again) throw error
      const backoffMs = Math.min(2_000, 10 * 2 ** tries)
      await delay(backoffMs * (0.5 + Math.random() / 2))
    }
  }
}

import { setTimeout as delay } from 'node:timers/promises'
import { type Engine, HenceError, type Reply } from 'hence'
import type { Shop } from './shop.ts'
import type { Submission } from './submission.ts'

/** What became of the requests that were sent: each is counted once, in one of the four. */
export interface Tally {
  accepted: number
  rejected: number
  failed: number
  /** Requests that had been decided before, or were sent twice: their first outcome came back. */
  duplicates: number
  /** How often each reason was given, among the rejected. */
  readonly reasons: Map<string, number>
}

export interface ImportOptions {
  /** Stops the import: nothing more is sent, and what was sent is waited for. */
  readonly signal: AbortSignal
  /** Hears of every request that is decided. */
  readonly onDecided: () => void
  /** How many requests are on their way at once. */
  readonly inFlightMax?: number
}

/** A request on its way. */
interface Flight {
  readonly requestId: string
  /** The decision that it waits for before it is sent. */
  readonly turn: Promise<void> | undefined
  readonly decided: Promise<void>
}

/**
 * Sends requests, many at once, until each is decided. Requests about one invoice wait for one another, as a
 * client does that acts on what it was told; so they arrive in order whatever has to be sent again.
 *
 * Importing the same requests again, after a crash say, is safe: what is decided stays so.
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
    // A retry does not wait for what it is a retry of, but for the same as that one.
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
      // The compiler does not see that type and input come from one member of the union.
      return await engine.submit(type, input as never, { requestId, principal })
    } catch (error) {
      const again = error instanceof HenceError && error.advice === 'retry' && tries < triesMax
      if (!again) throw error
      const backoffMs = Math.min(2_000, 10 * 2 ** tries)
      await delay(backoffMs * (0.5 + Math.random() / 2))
    }
  }
}

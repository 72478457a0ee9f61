import { type App, HenceError, type Outcome } from '../app/index.ts'
import { isRejection } from '../app/outcome.ts'
import type { EventRecord, RequestRecord } from '../log/record.ts'
import { mainRealm } from './realm.ts'
import { requestSeed } from './seed.ts'
import {
  checkPartitionKey,
  type Emission,
  type Facts,
  Origin,
  Transaction,
  type Workplace,
} from './transaction.ts'

/** What one record of the log led to, besides the changes of tables. */
export interface Step {
  /** The partition key of the record; empty when the request's input gives none. */
  key: string
  /** Of the request; undefined for an event. */
  outcome: Outcome | undefined
  /** Events for other partitions, in the order of emission. */
  readonly outgoing: Emission[]
  /** Events that stayed in the partition and were applied with the record. */
  readonly applied: Emission[]
  /** Reactions that threw; their own changes are undone, those of the others stand. */
  readonly failures: Failure[]
}

/** A derivation that threw. */
export interface Failure {
  /** The request or event that it derived from. */
  readonly type: string
  readonly key: string
  readonly code: string
  readonly message: string
}

/** What a step needs to know and may do outside its own derivations. */
export interface Surroundings {
  readonly logId: string
  /** Whether a partition key belongs to the partition that the record stands in. */
  isHere(key: string): boolean
  mark(): number
  undo(mark: number): void
}

/** How many events may be applied in one step: a bound for chains that fan out without end. */
export const eventsPerStepMax = 100_000

/**
 * Derives what follows from one record: the record itself, then the events that stay in its partition, in
 * the order of their emission. Each derivation is undone by itself when it throws, so that what becomes of
 * an event does not depend on whether it stayed in the partition.
 *
 * @throws HenceError whatever the state throws that is not the derivation's own fault, such as
 *   `state-unreadable` (operator); then nothing of the step may be kept
 */
export function takeStep(
  place: Workplace,
  record: RequestRecord | EventRecord,
  facts: Facts,
  around: Surroundings,
): Step {
  const step: Step = { key: '', outcome: undefined, outgoing: [], applied: [], failures: [] }
  const here = step.applied
  const sort = (emissions: readonly Emission[]) => {
    for (const emission of emissions) (around.isHere(emission.key) ? here : step.outgoing).push(emission)
  }

  if (record.kind === 'request') {
    const origin = new Origin(0, () => requestSeed(around.logId, record.identity))
    step.outcome = decide(place, record, facts, origin, around, step, sort)
  } else {
    const { key, data, id, type, depth } = record
    step.key = key
    const origin = new Origin(depth, () => id)
    const react = () => reactTo(place, type, key, place.program.realm.parseFrozen(data), facts, origin)
    attempt(around, type, key, react, sort, step.failures)
  }

  for (let i = 0; i < here.length; i++) {
    const { event, key, data, origin } = here[i]!
    const react = () => {
      if (i >= eventsPerStepMax) throw tooManyEvents(event.name)
      return reactTo(place, event.name, key, data, facts, origin)
    }
    attempt(around, event.name, key, react, sort, step.failures)
  }
  return step
}

function decide(
  place: Workplace,
  record: RequestRecord,
  facts: Facts,
  origin: Origin,
  around: Surroundings,
  step: Step,
  keep: (emissions: readonly Emission[]) => void,
): Outcome {
  const { app, realm, deriving } = place.program
  const mark = around.mark()
  deriving.active = true
  try {
    const request = requestNamed(app, record.type)
    const input = realm.parse(record.output ?? record.input)
    const key = request.key(input)
    checkPartitionKey(key, `request "${record.type}"`)
    step.key = key
    const tx = new Transaction(place, request.scope, key, facts, origin)
    const result = request.derive(tx, input)
    tx.end()
    assertSynchronous(result)
    if (isRejection(result)) {
      around.undo(mark)
      const { reason, details } = result
      if (typeof reason !== 'string')
        throw new HenceError('not-json', 'change', 'The reason of a rejection must be text.')
      if (details === undefined) return { status: 'rejected', reason }
      return { status: 'rejected', reason, details: mainRealm.seal(details) as never }
    }
    const value = mainRealm.seal(result ?? null) as never
    keep(tx.emissions)
    return { status: 'accepted', value }
  } catch (error) {
    deriving.active = false
    around.undo(mark)
    return { status: 'failed', ...describe(error) }
  } finally {
    deriving.active = false
  }
}

function attempt(
  around: Surroundings,
  type: string,
  key: string,
  react: () => readonly Emission[],
  keep: (emissions: readonly Emission[]) => void,
  failures: Failure[],
): void {
  const mark = around.mark()
  try {
    keep(react())
  } catch (error) {
    around.undo(mark)
    failures.push({ type, key, ...describe(error) })
  }
}

function reactTo(
  place: Workplace,
  type: string,
  key: string,
  data: unknown,
  facts: Facts,
  origin: Origin,
): readonly Emission[] {
  const { app, deriving } = place.program
  const reaction = app.reactions.get(type)
  if (reaction === undefined) throw unknownMessage(app, 'event', type)
  const tx = new Transaction(place, reaction.scope, key, facts, origin)
  deriving.active = true
  try {
    assertSynchronous(reaction.react(tx, data))
  } finally {
    deriving.active = false
  }
  tx.end()
  return tx.emissions
}

function requestNamed(app: App, type: string) {
  const request = app.requests.get(type)
  if (request === undefined) throw unknownMessage(app, 'request', type)
  return request
}

/** A message that the code does not know is no failure of a derivation: going on would lose it. */
function unknownMessage(app: App, kind: string, type: string): HenceError {
  return new HenceError(
    'unknown-message',
    'operator',
    `The log holds a ${kind} "${type}", which the app "${app.name}" does not define. ` +
      'Put its definition back; what is in the log must stay readable.',
  )
}

function tooManyEvents(type: string): HenceError {
  return new HenceError(
    'too-many-events',
    'change',
    `The event "${type}" is number ${eventsPerStepMax + 1} that follows from one record in its partition: do reactions emit each other without end?`,
  )
}

function assertSynchronous(result: unknown): void {
  if (
    typeof result !== 'object' ||
    result === null ||
    typeof (result as Promise<unknown>).then !== 'function'
  )
    return // Whatever it comes to, nobody waits for it; unheard, a rejection would end the process.
  ;(result as Promise<unknown>).then(undefined, () => {})
  throw new HenceError(
    'derivation-asynchronous',
    'change',
    'A derivation returned a promise. Derivations are synchronous: bring what it waits for as the input of a request.',
  )
}

/** Code and message, never a stack, which differs between engines. Errors that are not the derivation's own go on. */
function describe(error: unknown): { code: string; message: string } {
  if (error instanceof HenceError) {
    if (error.advice !== 'change') throw error
    return { code: error.code, message: error.message }
  }
  let message = 'It threw something that has no text.'
  try {
    const thrown = error as { name?: unknown; message?: unknown }
    message = thrown?.message === undefined ? String(error) : `${thrown.name}: ${thrown.message}`
  } catch {
    // A thrown value may refuse even to be read.
  }
  return { code: 'derivation-threw', message }
}

import { isSystemMessage } from '../app/name.ts'
import type { Violation } from '../constraint/tables.ts'
import type { Emission } from '../derivation/chain.ts'
import type { Derivation, StepResult } from '../derivation/step-result.ts'
import type { StateChange } from '../state/state.ts'
import type { TracedDerivation } from './trace.ts'

/** Reduces the derivations and decisions of a step to the part that a trace keeps. */
export function traced({ derivations, decisions }: StepResult): readonly TracedDerivation[] {
  // Most records lead to one derivation; this avoids a list that grows.
  const found =
    derivations.length === 1
      ? listOf(tracedOne(derivations[0]!))
      : derivations.flatMap((each) => listOf(tracedOne(each)))
  const isUsual = decisions.length === 1 && decisions[0]!.outcome && derivations[0]!.kind === 'request'
  return isUsual || decisions.length === 0 ? found : [...found, ...marksOf(found, decisions)]
}

/** Marks the requests that were derived in another step than the one that decided them. */
function marksOf(found: readonly TracedDerivation[], decisions: StepResult['decisions']): TracedDerivation[] {
  const marks: TracedDerivation[] = []
  for (const { chain, outcome } of decisions) {
    const { rootPartition, rootOffset } = chain
    const isHere = found.some(
      (each) =>
        each.kind === 'request' && each.rootPartition === rootPartition && each.rootOffset === rootOffset,
    )
    if (isHere !== (outcome === undefined)) continue
    const kind = isHere ? 'waits' : 'decides'
    const nothing = { type: '', key: '', changes: none, events: none, effects: none, failure: undefined }
    marks.push({ kind, rootPartition, rootOffset, ...nothing })
  }
  return marks
}

function listOf<T>(item: T | undefined): readonly T[] {
  return item === undefined ? none : [item]
}

/** The part of a derivation that a trace keeps. Without visible consequences a system message leaves none. */
function tracedOne(derivation: Derivation): TracedDerivation | undefined {
  const { kind, type, key, chain, emissions, effects, failure, violation } = derivation
  // With its length, since a list that grows takes room for 17.
  const changes: TracedDerivation['changes'][number][] = new Array(derivation.changes.length)
  let count = 0
  for (const change of derivation.changes) {
    if (!isTraced(derivation, change)) continue
    const { collection, key, before, after } = change
    changes[count++] = [tableOf(collection), key, before ?? null, after ?? null]
  }
  changes.length = count
  const isQuiet =
    changes.length === 0 && emissions.length === 0 && effects.length === 0 && !failure && !violation
  if (isQuiet && isSystemMessage(type) && kind !== 'request') return undefined
  const { rootPartition, rootOffset } = chain
  return {
    kind,
    type,
    key,
    rootPartition,
    rootOffset,
    changes,
    events: emissions.length === 0 ? none : emissions.map(tracedEvent),
    effects,
    failure,
    ...(violation !== undefined && { violation }),
  }
}

/** The name of the table of a collection `t:TABLE`; asked for with every change. */
function tableOf(collection: string): string {
  let table = tables.get(collection)
  if (table === undefined) {
    table = collection.slice(2)
    tables.set(collection, table)
  }
  return table
}

const tables = new Map<string, string>()

function tracedEvent({ type, key, data, version }: Emission): TracedDerivation['events'][number] {
  return version === 1 ? [type, key, data] : [type, key, data, version]
}

const none: readonly never[] = []

/** Whether a trace keeps a change of a row that an app or an operator can read. */
function isTraced({ type }: Derivation, { before, after }: StateChange): boolean {
  // A violation lists all its victims. Kept for each victim that was compensated, a thousand of them would
  // make hundreds of megabytes; the last state of the violation has the results of all.
  return type !== 'hence:compensated' || stateOf(before) !== stateOf(after)
}

function stateOf(row: unknown): Violation['state'] | undefined {
  return (row as Violation | undefined)?.state
}

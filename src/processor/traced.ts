import { isSystemMessage } from '../app/name.ts'
import type { Violation } from '../constraint/tables.ts'
import type { Emission } from '../derivation/chain.ts'
import type { Derivation, StepResult } from '../derivation/step-result.ts'
import type { StateChange } from '../state/state.ts'
import type { TracedDerivation } from './traces.ts'

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
  // A request may begin to wait and be decided in one step: then its last decision counts.
  const last = new Map(
    decisions.map((each) => [`${each.chain.rootPartition}:${each.chain.rootOffset}`, each]),
  )
  for (const { chain, outcome } of last.values()) {
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

/**
 * Reduces a derivation to the part that a trace keeps. A system message without visible consequences, for
 * example a claim that was granted, leaves no trace, since there are many.
 */
function tracedOne(derivation: Derivation): TracedDerivation | undefined {
  const { kind, type, key, chain, emissions, effects, failure, violation } = derivation
  const changes: TracedDerivation['changes'][number][] = []
  for (const change of derivation.changes) {
    if (!isTraced(derivation, change)) continue
    const { collection, key, before, after } = change
    changes.push([collection.slice(2), key, before ?? null, after ?? null])
  }
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

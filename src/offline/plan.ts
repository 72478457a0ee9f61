import type { App } from '../app/index.ts'
import { HenceError } from '../failure.ts'
import { sandboxed } from '../sandbox/program.ts'
import { type CheckOptions, type ReadForCode, readFor } from './check.ts'
import { readCode } from './code.ts'
import { deriveTwice } from './derive-twice.ts'
import { logOfSnapshot } from './log-of-snapshot.ts'
import { type MessageCount, survey } from './survey.ts'
import { versionInForce } from './version-in-force.ts'

/** An estimate of what reprocessing with new code takes. */
export interface Plan {
  /** The version in force, and the new one. */
  readonly before: string
  readonly after: string
  /** How many records would be derived again, and their size. */
  readonly records: number
  readonly bytes: number
  /** Requests and events by type and version. */
  readonly messages: readonly MessageCount[]
  /** The requests among them that the new code does not know. Reprocessing stops at the first of them. */
  readonly unreadable: readonly MessageCount[]
  /**
   * Definitions that only one version has, or whose shape differs; undefined where the code in force is not
   * kept.
   */
  readonly definitions: readonly DefinitionChange[] | undefined
  /**
   * How long it takes on an idle processor, extrapolated from the first records; undefined where they were
   * not derived.
   */
  readonly estimateMs: number | undefined
}

/** A definition that new code adds, removes or changes. */
export interface DefinitionChange {
  readonly kind: 'request' | 'event' | 'table' | 'constraint' | 'effect'
  readonly name: string
  readonly change: 'added' | 'removed' | 'changed'
}

/**
 * Plans a reprocess: reads the whole log, compares the definitions of the code in force and of the new code,
 * and derives the first records to estimate the time. It changes nothing in the data directory.
 * @throws HenceError what `check` throws; `code-not-kept` (change) where nothing says which code is in force
 */
export async function plan(options: Omit<CheckOptions, 'records' | 'until'>): Promise<Plan> {
  const { data } = options
  const read = await readFor(options)
  const { app, version, snapshot, survey, unknown } = read
  const before = survey.version ?? (await versionInForce(data, snapshot))
  const kept = await readCode(data, before).catch(() => undefined)
  const isDerivable = kept !== undefined && unknown.length === 0 && survey.records > 0
  return {
    before,
    after: version,
    records: survey.records,
    bytes: survey.bytes,
    messages: survey.messages,
    unreadable: unknown,
    definitions: kept && definitionChanges(sandboxed(kept).app, app),
    estimateMs: isDerivable ? await estimate(options, read) : undefined,
  }
}

/** How many records are derived to measure the pace. */
const trialRecords = 20_000

async function estimate(
  { data, app, signal }: CheckOptions,
  { snapshot, ends, survey: whole }: ReadForCode,
): Promise<number | undefined> {
  const first = await survey(logOfSnapshot(snapshot, ends), { records: trialRecords }, () => {
    signal?.throwIfAborted()
  })
  try {
    const work = { signal }
    const { ms } = await deriveTwice({ data, snapshot, survey: first, app, samples: 0, work })
    return Math.ceil((ms / first.records) * whole.records)
  } catch (error) {
    signal?.throwIfAborted()
    // An error of the trial would stop the work itself too, but a plan only says what there is to do.
    if (error instanceof HenceError) return undefined
    throw error
  }
}

function definitionChanges(before: App, after: App): DefinitionChange[] {
  const changes: DefinitionChange[] = []
  const compare = <T>(
    kind: DefinitionChange['kind'],
    was: ReadonlyMap<string, T>,
    is: ReadonlyMap<string, T>,
    shapeOf: (definition: T) => unknown = () => undefined,
  ) => {
    for (const name of [...new Set([...was.keys(), ...is.keys()])].sort()) {
      const [old, fresh] = [was.get(name), is.get(name)]
      if (old === undefined) changes.push({ kind, name, change: 'added' })
      else if (fresh === undefined) changes.push({ kind, name, change: 'removed' })
      else if (JSON.stringify(shapeOf(old)) !== JSON.stringify(shapeOf(fresh))) {
        changes.push({ kind, name, change: 'changed' })
      }
    }
  }
  compare('request', before.requests, after.requests, ({ scope }) => scope)
  compare('event', before.events, after.events, ({ scope }) => scope)
  compare('table', before.tables, after.tables, ({ scope, parts, indexes }) => [scope, parts, indexes])
  compare('constraint', before.constraints, after.constraints, (definition) => definition)
  compare('effect', before.effects, after.effects)
  return changes
}

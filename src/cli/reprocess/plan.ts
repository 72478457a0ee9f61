import { resolve } from 'node:path'
import type { App } from '../../app/index.ts'
import { HenceError } from '../../failure.ts'
import type { LogSnapshot } from '../../log/file-log/snapshot.ts'
import type { Log } from '../../log/log.ts'
import { readCode } from '../../offline/code.ts'
import { snapshotConsistently } from '../../offline/data-snapshot.ts'
import { dryRun } from '../../offline/dry-run.ts'
import { logOfSnapshot } from '../../offline/log-of-snapshot.ts'
import { type MessageCount, survey, unreadable } from '../../offline/survey.ts'
import { versionInForce } from '../../offline/version-in-force.ts'
import { bundle } from '../../sandbox/bundle.ts'
import { sandboxed } from '../../sandbox/program.ts'
import { command, dataOption, jsonOption, runs } from '../command.ts'
import { exitCode } from '../terminal/exit-code.ts'
import { paint, print } from '../terminal/output.ts'
import { Progress } from '../terminal/progress.ts'
import { stopSignal } from '../terminal/stop-signal.ts'
import { count, durationText, versionText } from './status-text.ts'

interface PlanOptions {
  readonly data: string
  readonly json?: true
}

/** An estimate of what reprocessing would do. */
interface Plan {
  /** The version in force, and the new one. */
  readonly before: string
  readonly after: string
  readonly records: number
  readonly bytes: number
  readonly messages: readonly MessageCount[]
  /** Requests that the new code does not know; reprocessing would stop at the first of them. */
  readonly unreadable: readonly MessageCount[]
  /** Definitions that only one version has, or whose shape differs; undefined if the present code is not in the directory. */
  readonly definitions: readonly DefinitionChange[] | undefined
  /** Time on an idle machine, from a trial with the first records; undefined if there was no trial. */
  readonly estimateMs: number | undefined
}

interface DefinitionChange {
  readonly kind: 'request' | 'event' | 'table' | 'constraint' | 'effect'
  readonly name: string
  readonly change: 'added' | 'removed' | 'changed'
}

/** `hence reprocess plan` */
export function planCommand() {
  return command('plan', 'show what deriving everything again would take; changes nothing', [
    'hence reprocess plan shop.ts --data data',
  ])
    .argument('<app>', 'the module of the new code, for example shop.ts')
    .addOption(dataOption().makeOptionMandatory())
    .addOption(jsonOption())
    .addHelpText('after', '\nIt only reads the log, and may run beside a running server.')
    .action(
      runs(async (path: string, options: PlanOptions, _command: unknown) => {
        const plan = await planned(resolve(path), options.data)
        if (options.json) await print(JSON.stringify(plan))
        else for (const line of planText(plan)) await print(line)
        return plan.unreadable.length > 0 ? exitCode.unreadable : exitCode.ok
      }),
    )
}

async function planned(module: string, data: string): Promise<Plan> {
  const code = await bundle(module)
  const { app } = sandboxed(code)
  const { snapshot, ends } = await snapshotConsistently(data)
  const log = logOfSnapshot(snapshot, ends)
  const progress = new Progress()
  try {
    const whole = await survey(log, {}, (records) => progress.add('read', records, 'records'))
    const before = whole.version ?? (await versionInForce(data, snapshot))
    const kept = await readCode(data, before).catch(() => undefined)
    const unknown = unreadable(whole.messages, app)
    const mayTry = kept !== undefined && unknown.length === 0 && whole.records > 0
    return {
      before,
      after: code.hash,
      records: whole.records,
      bytes: whole.bytes,
      messages: whole.messages,
      unreadable: unknown,
      definitions: kept && definitionChanges(sandboxed(kept).app, app),
      estimateMs: mayTry ? await estimate({ module, data, snapshot, log, before }, whole.records) : undefined,
    }
  } finally {
    progress.end()
  }
}

/** The number of records in the trial. */
const trialRecords = 20_000

async function estimate(
  {
    before,
    log,
    ...where
  }: { module: string; data: string; snapshot: LogSnapshot; log: Log; before: string },
  all: number,
): Promise<number | undefined> {
  const first = await survey(log, { records: trialRecords }, () => {})
  try {
    const { ms } = await dryRun({
      ...where,
      survey: first,
      version: first.version ?? before,
      samples: 0,
      read: () => {},
      heard: () => {},
      signal: stopSignal().signal,
    })
    return Math.ceil((ms / first.records) * all)
  } catch (error) {
    // The same error would stop reprocessing, but a plan should still show the rest.
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

function planText(plan: Plan): string[] {
  const { before, after, records, bytes, messages, definitions, estimateMs } = plan
  const isUnknown = new Set(plan.unreadable)
  const lines = [
    before === after
      ? `The code is the one in force, ${versionText(before)}.`
      : `The code in force is ${versionText(before)}, the new one is ${versionText(after)}.`,
    `${count(records)} records (${count(bytes)} bytes) would be derived again.`,
    ...messages.map((each) => {
      const { kind, type, version, count: many, first } = each
      const known = isUnknown.has(each) ? ` ${paint.bad(`unknown to the new code, first at ${first}`)}` : ''
      return `  ${kind} ${paint.strong(type)}${version === 1 ? '' : ` version ${version}`}: ${count(many)}${known}`
    }),
  ]
  if (definitions === undefined)
    lines.push('The code in force is not in the directory, so definitions are not compared.')
  for (const { kind, name, change } of definitions ?? [])
    lines.push(`${kind} ${paint.strong(name)} ${change}`)
  if (estimateMs !== undefined) {
    lines.push(
      `It would take about ${durationText(estimateMs)} on a free processor; longer on a busy one, or with --share.`,
    )
  }
  return lines
}

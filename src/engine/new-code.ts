import type { Table } from '../app/index.ts'
import { operatorError } from '../failure.ts'
import type { Codes } from '../generation/codes.ts'
import { checkTakeOver } from '../generation/take-over-check.ts'
import { appendControl } from '../log/controls.ts'
import { everyPartition, recordsBefore } from '../log/partitions.ts'
import { rulesNow } from '../log/record.ts'
import { replay } from '../processor/replay.ts'
import type { Program } from '../sandbox/program.ts'
import type { ViewsHost } from '../view/host.ts'
import { foldPastRows, type PastRows } from '../view/past.ts'
import type { RequestPath } from './request-path.ts'
import type { StartWatch } from './start-pause.ts'

interface NewCodeHost {
  readonly path: RequestPath
  readonly codes: Codes
  readonly views: ViewsHost
  readonly watch: StartWatch
}

/** So many bytes are appended at once. */
const appendBytes = 256 * 1024

/**
 * `onCodeChange: 'continue'`: the code in force finishes what is under way, and the given code derives what
 * comes from here on. Its new tables get their rows from the past where it says how.
 */
export async function takeOver(host: NewCodeHost): Promise<void> {
  const { path, codes } = host
  const { log } = host.views.storage
  const { live } = path
  const { version } = codes
  const program = await codes.programOf(version)
  // A timer that comes due in between would append a tick, and its events could stand on both sides of the
  // control record.
  await path.quiesce(async () => {
    await live.checkpoint()
    checkTakeOver(live.store, live.program.app, program.app)
    const { version: before } = live.program
    const { length: number } = live.processor.history
    const rows = await foldPast(host, live.program, program, live.processor.positions, false)
    try {
      const filled = rows && countsOf(rows, number, path)
      const more = filled?.some((count) => count > 0) && { filled }
      const control = { type: 'version' as const, number, version, rules: rulesNow, before, ...more }
      await appendControl(log, { generation: live.number, control }, everyPartition(log))
      if (more) await appendRows(rows!, number, host)
    } finally {
      await rows?.drop()
    }
    await replay(log, live, { pause: () => path.checkpointer.saveIfDue() })
  })
}

/** Writes the filled rows that a process did not get to write. Its code makes the same ones again. */
export async function finishFilling(host: NewCodeHost): Promise<void> {
  const { path, codes } = host
  const { live } = path
  const fact = live.processor.filling
  if (fact?.type !== 'version') return
  const { number, positions, filled, version } = fact
  const [before, program] = await Promise.all([fact.before!, version].map((each) => codes.programOf(each)))
  await path.quiesce(async () => {
    const rows = await foldPast(host, before!, program!, positions, true)
    try {
      const again = rows && countsOf(rows, number, path)
      if (rows === undefined || filled.some((count, partition) => count !== again![partition]))
        throw otherRows(number)
      await appendRows(rows, number, host)
    } finally {
      await rows?.drop()
    }
    await replay(host.views.storage.log, live, { pause: () => path.checkpointer.saveIfDue() })
  })
}

/** Folds the past for the tables that the code before lacks; undefined if there are none with a fill. */
async function foldPast(
  { path, views, watch }: NewCodeHost,
  before: Program,
  program: Program,
  until: readonly number[],
  isBegun: boolean,
): Promise<PastRows | undefined> {
  const named = new Set<Table>(program.app.fills.map(({ table }) => table))
  const tables = [...named].filter(({ name }) => !before.app.tables.has(name))
  if (tables.length === 0) return undefined
  const { live } = path
  // Nothing else happens meanwhile.
  const host = { ...views, live: async () => live, frontier: () => Number.POSITIVE_INFINITY }
  const of = recordsBefore(live.processor.positions)
  const progress = (derived: number) => watch.progress?.({ derived, of })
  progress(0)
  return foldPastRows(host, live, program, { tables, until, isBegun, progress, signal: watch.signal })
}

function countsOf(rows: PastRows, control: number, { live }: RequestPath): number[] {
  const counts = live.processor.positions.map(() => 0)
  for (const [partition] of rows.records(control, live)) counts[partition]!++
  return counts
}

/** Appends the records of rows that the log lacks. */
async function appendRows(rows: PastRows, control: number, { path, views }: NewCodeHost): Promise<void> {
  const { live } = path
  const isThere = live.processor.history.length > control
  const waiting = new Map<number, Buffer[]>()
  let size = 0
  const append = async () => {
    for (const [partition, records] of waiting) await views.storage.log.append(partition, records)
    waiting.clear()
    size = 0
  }
  for (const [partition, n, bytes] of rows.records(control, live)) {
    if (isThere && n < live.processor.filled(partition)) continue
    const records = waiting.get(partition) ?? []
    waiting.set(partition, records)
    records.push(bytes)
    size += bytes.length
    if (size >= appendBytes) await append()
  }
  await append()
}

const otherRows = (number: number) =>
  operatorError(
    'divergence',
    `A process ended while it wrote the rows of the new tables of control record ${number}, and the same code now ` +
      'makes other rows: one of its fills is not deterministic. Start with the version of Node that began it.',
  )

/** The main module of the process that derives the log again; `rehearse` starts it. */
import { writeSync } from 'node:fs'
import { mkdir, stat, statfs } from 'node:fs/promises'
import { setPriority } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { type UnequalEntry, unequalEntries } from '../diff/merge.ts'
import { thrownText } from '../failure.ts'
import { fileFailure } from '../file-failure.ts'
import { keptCode } from '../generation/codes.ts'
import { Generation, type GenerationHost, savedCheckpoint } from '../generation/generation.ts'
import { imprintOf, partsOf } from '../generation/imprint.ts'
import { requestIdOf } from '../identity.ts'
import { baseOf, lineageOf, liveOf } from '../log/control-history.ts'
import { openGrowingLog } from '../log/file-log/growing-log.ts'
import { decidedTimes } from '../processor/limits.ts'
import { type ReplayOptions, replay } from '../processor/replay.ts'
import { sandboxed } from '../sandbox/program.ts'
import { decodeKey } from '../state/keys.ts'
import { copyLmdbStore } from '../state/lmdb-check.ts'
import { openLmdbStore } from '../state/lmdb-store.ts'
import { inOnePiece } from '../state/pieces.ts'
import type { TableState } from '../state/table.ts'
import { stateFolder } from '../storage/states.ts'
import { kept } from '../storage/storage.ts'
import { copyViews, openRefold, short, viewsSize } from '../view/refold.ts'
import { type RehearsalLine, type RehearsalOptions, rehearsalFolder } from './rehearsal.ts'

/** How long it works at least between two rests, in milliseconds. */
const sliceMsMin = 20
/** The changed rows that are kept in memory at most. */
const rowsMax = 50_000

// The engine has ended.
process.stdin.on('end', () => process.kill(process.pid, 'SIGKILL')).resume()
setPriority(5)

const given = JSON.parse(process.argv[2]!) as RehearsalOptions
const { directory, generation: number, share = 0.1 } = given
const folder = rehearsalFolder(directory)
// Its message is for an operator, and not where in the code it was thrown.
process.on('uncaughtException', (error) => {
  writeSync(2, thrownText(fileFailure(error) ?? error))
  process.exit()
})
const log = await openGrowingLog(directory)
const programOf = async (hash: string) => sandboxed(await keptCode((name) => kept(directory, name), hash))
const hostOf = (name: string): GenerationHost => ({
  log,
  openStore: (_, collections) => openLmdbStore({ directory: join(folder, name), collections }),
  programOf,
  checked: false,
  // All of it was derived before.
  derivationMs: decidedTimes * given.derivationMs,
})

await copyLive()
const views = await copyViews(directory, folder)
const saved = await savedCheckpoint(hostOf('live'), number)
// While it was a candidate, messages under way waited for what the live one was about to do.
if (saved !== undefined && liveOf(saved.history) === number) await rehearseTo(saved)
process.exit()

async function copyLive(): Promise<void> {
  const state = stateFolder(directory, number)
  const size = (await stat(join(state, 'data.mdb'))).size + (await viewsSize(directory))
  const { bavail, bsize } = await statfs(directory)
  // A copy, what is derived again, and as much for the engine.
  if (bavail * bsize < 3 * size) {
    process.stderr.write(`the disk needs ${3 * size} free bytes for it, and has ${bavail * bsize}`)
    process.exit()
  }
  await mkdir(join(folder, 'live'), { recursive: true, mode: 0o700 })
  await copyLmdbStore(state, join(folder, 'live'))
}

async function rehearseTo({ positions, history, version }: NonNullable<typeof saved>): Promise<void> {
  const refold = await openRefold({ views, generation: number }, { data: directory, folder, log })
  const ends = refold.ends(positions)
  // All records that a checkpoint holds are durable, and those that a view has folded.
  log.grow(ends)
  // A ruling on a record before the checkpoint may stand behind it.
  log.grow(given.positions)
  const open = (name: string) =>
    Generation.open(hostOf(name), lineageOf(history, number), () =>
      programOf(baseOf(history, number) ?? version),
    )
  const live = await open('live')
  const again = await open('again')
  let began = performance.now()
  const rest = async (isFull: boolean) => {
    // Before outcomes are forgotten.
    await refold.fold(again)
    // As the engine does, so that it takes no more space than the live state.
    if (isFull) inOnePiece(again.processor.forget(rowsMax))
    if (isFull) await again.processor.checkpoint()
    await pause((performance.now() - began) * (1 / share - 1))
    began = performance.now()
  }
  /** Records with an earlier log time are applied by then. */
  let frontier = Number.POSITIVE_INFINITY
  for (const [partition, from] of positions.entries()) {
    if (from === ends[partition]) continue
    for await (const { time } of log.read(partition, from)) {
      frontier = Math.min(frontier, time)
      break
    }
  }
  const derive = (given: Pick<ReplayOptions, 'ends' | 'grows'>, frontier?: number) =>
    replay(log, again, {
      ...given,
      applied: (applied) => refold.add(applied, again.program.app, frontier),
      pause() {
        const isFull = again.processor.checkpointsDirty(rowsMax) >= 1
        if (!isFull && !refold.isDue && performance.now() - began < sliceMsMin) return undefined
        return rest(isFull)
      },
    })
  await derive({ ends: positions }, frontier)
  await again.checkpoint()
  const [was, is] = [imprintOf(live), imprintOf(again)]
  const part = [...is.parts.keys(), ...was.parts.keys()].find(
    (name) => was.parts.get(name) !== is.parts.get(name),
  )
  if (part !== undefined) return say({ differs: difference(part, live, again) })
  // The partitions of a view were read one after another.
  await derive({ ends, grows: true })
  refold.ended()
  await refold.fold(again)
  const compared = refold.compare()
  const differs = compared.find(({ difference }) => difference)?.difference
  if (differs !== undefined) return say({ differs })
  say({
    ...{ generation: number, version: again.program.version, positions, imprint: is.sha256 },
    views: compared.map(({ view }) => view),
  })
}

/** The first difference in a part of the imprint, in words. */
function difference(part: string, live: Generation, again: Generation): string {
  const entriesIn = (each: Generation) => [...partsOf(each)].find(([name]) => name === part)?.[1] ?? []
  let entry: UnequalEntry | undefined
  for (entry of unequalEntries(entriesIn(live), entriesIn(again))) if (entry !== undefined) break
  if (entry === undefined) return `"${part}"`
  const table = again.tables.get(part) ?? live.tables.get(part)
  const key = table === undefined ? [requestIdOf(entry.key)] : decodeKey(table.kinds, entry.key).parts
  const record = table === undefined ? undefined : lastRecordOf(again, table, entry.key)
  const where = record === undefined ? '' : `, which record ${record} changed last`
  return `${JSON.stringify({ table: part, key })}${where}, is ${short(entry.before)} and should be ${short(entry.after)}`
}

/** The last record that changed a row, by the traces. */
function lastRecordOf({ processor }: Generation, { name }: TableState, key: string): string | undefined {
  const isRow = ([table, changed]: readonly [string, string, ...unknown[]]) =>
    table === name && changed === key
  let last: string | undefined
  for (const partition of processor.positions.keys()) {
    for (let offset = 0; ; ) {
      const some = processor.traces.from({ partition, offset }, 1_000)
      if (some.length === 0) break
      for (const { offset, trace } of some)
        if (trace.derivations.some(({ changes }) => changes.some(isRow))) last = `${partition}:${offset}`
      offset = some.at(-1)!.offset + 1
    }
  }
  return last
}

function say(line: RehearsalLine): void {
  writeSync(1, `${JSON.stringify(line)}\n`)
}

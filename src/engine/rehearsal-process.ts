/** The main module of the process that derives the log again; `rehearse` starts it. */
import { writeSync } from 'node:fs'
import { mkdir, stat, statfs } from 'node:fs/promises'
import { setPriority } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { type UnequalEntry, unequalEntries } from '../diff/merge.ts'
import { keptCode } from '../generation/codes.ts'
import { Generation, type GenerationHost, savedCheckpoint } from '../generation/generation.ts'
import { imprintOf, partsOf } from '../generation/imprint.ts'
import { requestIdOf } from '../identity.ts'
import { baseOf, lineageOf, liveOf } from '../log/control-history.ts'
import { openGrowingLog } from '../log/file-log/growing-log.ts'
import { decidedTimes } from '../processor/limits.ts'
import { replay } from '../processor/replay.ts'
import { sandboxed } from '../sandbox/program.ts'
import { decodeKey } from '../state/keys.ts'
import { copyLmdbStore } from '../state/lmdb-check.ts'
import { openLmdbStore } from '../state/lmdb-store.ts'
import type { TableState } from '../state/table.ts'
import { stateFolder } from '../storage/states.ts'
import { kept } from '../storage/storage.ts'
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
const saved = await savedCheckpoint(hostOf('live'), number)
// While it was a candidate, messages under way waited for what the live one was about to do.
if (saved !== undefined && liveOf(saved.history) === number) await rehearseTo(saved)
process.exit()

async function copyLive(): Promise<void> {
  const state = stateFolder(directory, number)
  const { size } = await stat(join(state, 'data.mdb'))
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
  // All records that a checkpoint holds are durable.
  log.grow(positions)
  // A ruling on a record before the checkpoint may stand behind it.
  log.grow(given.positions)
  const open = (name: string) =>
    Generation.open(hostOf(name), lineageOf(history, number), () =>
      programOf(baseOf(history, number) ?? version),
    )
  const live = await open('live')
  const again = await open('again')
  let began = performance.now()
  const rest = async (saved: Promise<unknown> | undefined) => {
    await saved
    await pause((performance.now() - began) * (1 / share - 1))
    began = performance.now()
  }
  await replay(log, again, {
    ends: positions,
    pause() {
      const isFull = again.state.checkpointsDirty(rowsMax) >= 1
      if (!isFull && performance.now() - began < sliceMsMin) return undefined
      // As the engine does, so that it takes no more space than the live state.
      if (isFull) again.processor.forget(rowsMax)
      return rest(isFull ? again.processor.checkpoint() : undefined)
    },
  })
  await again.checkpoint()
  const [was, is] = [imprintOf(live), imprintOf(again)]
  const part = [...is.parts.keys(), ...was.parts.keys()].find(
    (name) => was.parts.get(name) !== is.parts.get(name),
  )
  if (part === undefined)
    say({ generation: number, version: again.program.version, positions, imprint: is.sha256 })
  else say({ differs: difference(part, live, again) })
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

function short(text: string | undefined): string {
  return text === undefined ? 'absent' : text.slice(0, 200)
}

function say(line: RehearsalLine): void {
  writeSync(1, `${JSON.stringify(line)}\n`)
}

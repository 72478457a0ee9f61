/** The main module of the process that derives the log again; `rehearse` starts it. */
import { writeSync } from 'node:fs'
import { mkdir, stat, statfs } from 'node:fs/promises'
import { setPriority } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { comparison } from '../diff/diff.ts'
import { keptCode } from '../generation/codes.ts'
import { Generation, type GenerationHost, savedCheckpoint } from '../generation/generation.ts'
import { imprintOf } from '../generation/imprint.ts'
import { baseOf, lineageOf } from '../log/control-history.ts'
import { openGrowingLog } from '../log/file-log/growing-log.ts'
import { replay } from '../processor/replay.ts'
import { sandboxed } from '../sandbox/program.ts'
import { decodeKey } from '../state/keys.ts'
import { copyLmdbStore, openLmdbStore } from '../state/lmdb-store.ts'
import { stateFolder } from '../storage/states.ts'
import { kept } from '../storage/storage.ts'
import { type RehearsalLine, type RehearsalOptions, rehearsalFolder } from './rehearsal.ts'

/** Its share of the time, and how long it works at least between two rests, in milliseconds. */
const share = 0.1
const sliceMsMin = 20
/** The changed rows that are kept in memory at most. */
const rowsMax = 50_000

// The engine has ended.
process.stdin.on('end', () => process.kill(process.pid, 'SIGKILL')).resume()
setPriority(5)

const { directory, generation: number, derivationMs } = JSON.parse(process.argv[2]!) as RehearsalOptions
const folder = rehearsalFolder(directory)
const log = await openGrowingLog(directory)
const programOf = async (hash: string) => sandboxed(await keptCode((name) => kept(directory, name), hash))
const hostOf = (name: string): GenerationHost => ({
  log,
  openStore: (_, collections) => openLmdbStore({ directory: join(folder, name), collections }),
  programOf,
  checked: false,
  derivationMs,
})

await copyLive()
const saved = await savedCheckpoint(hostOf('live'), number)
if (saved !== undefined) await rehearseTo(saved)
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
      return rest(isFull ? again.processor.checkpoint() : undefined)
    },
  })
  await again.checkpoint()
  const [was, is] = [imprintOf(live), imprintOf(again)]
  const part = [...is.parts.keys(), ...was.parts.keys()].find(
    (name) => was.parts.get(name) !== is.parts.get(name),
  )
  if (part === undefined) say({ generation: number, version, positions, imprint: is.sha256 })
  else say({ differs: difference(live, again) ?? `"${part}"` })
}

/** The first difference, in words; undefined if it is in nothing that has a name. */
function difference(live: Generation, again: Generation): string | undefined {
  const sides = [live, again].map(({ program: { app }, store }) => ({ app, store })) as never
  for (const found of comparison(...(sides as Parameters<typeof comparison>))) {
    if (found === undefined) continue
    const { before, after, ...names } = found
    const record = found.kind === 'row' ? lastRecordOf(again, found.table, found.key) : undefined
    const where = record === undefined ? '' : `, which record ${record} changed last`
    return `${JSON.stringify(names)}${where}, is ${short(before)} and should be ${short(after)}`
  }
  return undefined
}

/** The last record that changed a row, by the traces. */
function lastRecordOf(
  { program, processor }: Generation,
  name: string,
  key: readonly unknown[],
): string | undefined {
  const kinds = ['string', ...program.app.tables.get(name)!.parts] as const
  const isRow = ([table, encoded]: readonly [string, string, ...unknown[]]) =>
    table === name && JSON.stringify(decodeKey(kinds, encoded).parts) === JSON.stringify(key)
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

function short(value: unknown): string {
  return value === undefined ? 'absent' : JSON.stringify(value).slice(0, 200)
}

function say(line: RehearsalLine): void {
  writeSync(1, `${JSON.stringify(line)}\n`)
}

/** The main module of the process that derives up to a record; `deriveApart` starts it. */
import { writeSync } from 'node:fs'
import { openGrowingLog } from '../log/file-log/growing-log.ts'
import { decidedTimes } from '../processor/limits.ts'
import { replay } from '../processor/replay.ts'
import { sandboxed } from '../sandbox/program.ts'
import { type DerivedAt, Interruption } from '../sandbox/timed.ts'
import { openLmdbStore } from '../state/lmdb-store.ts'
import { stateFolder } from '../storage/states.ts'
import { kept } from '../storage/storage.ts'
import type { ApartLine, ApartOptions } from './apart.ts'
import { keptCode } from './codes.ts'
import { Generation } from './generation.ts'

// The engine has ended.
process.stdin.on('end', () => process.kill(process.pid, 'SIGKILL')).resume()

const { directory, lineage, version, ends, at, derivationMs, checked } = JSON.parse(
  process.argv[2]!,
) as ApartOptions

const log = await openGrowingLog(directory)
log.grow(ends)
const programOf = async (hash: string) => sandboxed(await keptCode((name) => kept(directory, name), hash))
const generation = await Generation.open(
  {
    log,
    openStore: (number, collections) =>
      openLmdbStore({ directory: stateFolder(directory, number), collections, readOnly: true }),
    programOf,
    checked,
    derivationMs,
  },
  lineage,
  () => programOf(version),
)
const isAt = ({ partition, offset, between }: DerivedAt) =>
  partition === at.partition && offset === at.offset && between === at.between
const isRecord = (partition: number, offset: number) => isAt({ ...at, partition, offset })
let hasBegun = false

try {
  await replay(log, generation, {
    pause: () => undefined,
    limits: {
      groupMs: () => decidedTimes * derivationMs,
      apart: {
        from: ends.map((end, partition) => (partition === at.partition ? at.offset : end)),
        begins(where, derivation) {
          if (isAt(where)) hasBegun = true
          // It has ended, and comes before a record that may end the process too.
          else if (hasBegun && at.between !== undefined) ended()
          if (isAt(where) && derivation !== undefined) say({ begins: derivation })
        },
        dueMs: () => (at.between === undefined ? decidedTimes : 1) * derivationMs,
        recordMs: (partition, offset) =>
          isRecord(partition, offset) ? derivationMs : decidedTimes * derivationMs,
        derived(partition, offset) {
          return isRecord(partition, offset) ? ended() : undefined
        },
      },
    },
  })
  if (hasBegun) ended()
} catch (error) {
  const { derivation, at: where } = error instanceof Interruption ? error : {}
  if (derivation === undefined || !isAt(where!)) throw error
  const { code, ms } = error as Interruption
  say({ interrupted: code, derivation, ms })
}
process.exit()

function ended(): never {
  say({ ended: true })
  process.exit()
}

/** At once, since this process may die in the next moment. */
function say(line: ApartLine): void {
  writeSync(1, `${JSON.stringify(line)}\n`)
}

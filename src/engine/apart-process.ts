/** The main module of the process that derives up to a record; `deriveApart` starts it. */
import { writeSync } from 'node:fs'
import { keptCode } from '../generation/codes.ts'
import { Generation } from '../generation/generation.ts'
import { openGrowingLog } from '../log/file-log/growing-log.ts'
import { decidedTimes } from '../processor/limits.ts'
import { replay } from '../processor/replay.ts'
import { sandboxed } from '../sandbox/program.ts'
import { Interruption } from '../sandbox/timed.ts'
import { openLmdbStore } from '../state/lmdb-store.ts'
import { stateFolder } from '../storage/states.ts'
import { kept } from '../storage/storage.ts'
import type { ApartLine, ApartOptions } from './apart.ts'

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
const isRecord = (partition: number, offset: number) => partition === at.partition && offset === at.offset

try {
  await replay(log, generation, {
    pause: () => undefined,
    limits: {
      groupMs: () => decidedTimes * derivationMs,
      apart: {
        from: ends.map((end, partition) => (partition === at.partition ? at.offset : end)),
        begins(partition, offset, derivation) {
          if (isRecord(partition, offset) && derivation !== undefined) say({ begins: derivation })
        },
        recordMs: (partition, offset) =>
          isRecord(partition, offset) ? derivationMs : decidedTimes * derivationMs,
        derived(partition, offset) {
          if (!isRecord(partition, offset)) return undefined
          say({ ended: true })
          process.exit()
        },
      },
    },
  })
} catch (error) {
  const { derivation, at: where } = error instanceof Interruption ? error : {}
  if (derivation === undefined || !isRecord(where!.partition, where!.offset)) throw error
  const { code, ms } = error as Interruption
  say({ interrupted: code, derivation, ms })
}
process.exit()

/** At once, since this process may die in the next moment. */
function say(line: ApartLine): void {
  writeSync(1, `${JSON.stringify(line)}\n`)
}

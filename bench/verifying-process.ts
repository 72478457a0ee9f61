/** The two steps of `hence verify`: check every byte of the log, then derive the tables again. */
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { derivedDigests } from '../src/audit/history.ts'
import { verifyPartition } from '../src/audit/verify.ts'
import { readLiveCheckpoint } from '../src/offline/checkpoints.ts'
import { readCode } from '../src/offline/code.ts'
import { snapshotData } from '../src/offline/data-snapshot.ts'
import { logOfSnapshot } from '../src/offline/log-of-snapshot.ts'
import { sandboxed } from '../src/sandbox/program.ts'
import { openLmdbStore } from '../src/state/lmdb-store.ts'
import { reportToParent } from './parent.ts'
import { processorMicros } from './processor.ts'

export interface Verified {
  readonly records: number
  readonly bytes: number
  readonly byteSeconds: number
  readonly historySeconds: number
  /** Processor time of each step. */
  readonly byteMicros: number
  readonly historyMicros: number
}

const data = process.argv[2]!
const processorAtStart = processorMicros()
const startedAt = performance.now()
const snapshot = await snapshotData(data)
const verified = await verifyPartition(snapshot.partitions[0]!, { heads: undefined, inUse: false })
const readAt = performance.now()
const byteMicros = processorMicros() - processorAtStart
if (verified.flaws.length > 0) throw new Error(verified.flaws[0]!.message)
const { version } = (await readLiveCheckpoint(data))!
const directory = await mkdtemp(join(data, 'again-'))
const processorBefore = processorMicros()
const beganAt = performance.now()
await derivedDigests(
  {
    log: logOfSnapshot(snapshot),
    openStore: (_, collections) => openLmdbStore({ directory, collections }),
    programOf: async (code) => sandboxed(await readCode(data, code)),
    checked: false,
  },
  [0],
  version,
  () => {},
)
const endedAt = performance.now()
const historyMicros = processorMicros() - processorBefore
await rm(directory, { recursive: true })
const result: Verified = {
  records: verified.records,
  bytes: verified.bytes,
  byteSeconds: (readAt - startedAt) / 1000,
  historySeconds: (endedAt - beganAt) / 1000,
  byteMicros,
  historyMicros,
}
reportToParent(result)

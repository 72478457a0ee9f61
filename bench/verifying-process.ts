/** What `hence verify` does, a step at a time: every byte of the log, then the tables derived again. */
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { derivedDigests } from '../src/audit/history.ts'
import { verifyPartition } from '../src/audit/verify.ts'
import { readCode } from '../src/offline/code.ts'
import { snapshotData } from '../src/offline/data-snapshot.ts'
import { logOfSnapshot } from '../src/offline/log-of-snapshot.ts'
import { readLiveCheckpoint } from '../src/offline/state.ts'
import { sandboxed } from '../src/sandbox/program.ts'
import { openLmdbStore } from '../src/state/lmdb-store.ts'
import { tellParent } from './parent.ts'

export interface Verified {
  readonly records: number
  readonly bytes: number
  readonly byteSeconds: number
  readonly historySeconds: number
}

const data = process.argv[2]!
const startedAt = performance.now()
const snapshot = await snapshotData(data)
const verified = await verifyPartition(snapshot.partitions[0]!, { heads: undefined, inUse: false })
const readAt = performance.now()
if (verified.flaws.length > 0) throw new Error(verified.flaws[0]!.message)
const { version } = (await readLiveCheckpoint(data))!
const directory = await mkdtemp(join(data, 'again-'))
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
await rm(directory, { recursive: true })
const told: Verified = {
  records: verified.records,
  bytes: verified.bytes,
  byteSeconds: (readAt - startedAt) / 1000,
  historySeconds: (endedAt - beganAt) / 1000,
}
tellParent(told)

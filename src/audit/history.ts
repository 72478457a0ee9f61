import { tablesFor } from '../derivation/derived-state.ts'
import { Processor } from '../derivation/processor.ts'
import type { Program } from '../derivation/program.ts'
import { replay } from '../derivation/replay.ts'
import type { Log } from '../log/log.ts'
import { digest } from '../state/digest.ts'
import { State } from '../state/state.ts'
import type { Store } from '../state/store.ts'

/** Changed rows gather in memory up to this many. */
const rowsMax = 50_000

/**
 * Derives what comes in a log after the checkpoint in a store, or all of it when the store is empty.
 * @param store is written to, and stays open
 * @returns the digest of each table of the app
 */
export async function derivedDigests(
  log: Log,
  program: Program,
  store: Store,
  progress: (records: number) => void,
): Promise<ReadonlyMap<string, string>> {
  const state = new State(store)
  const tables = tablesFor(program, state)
  const { id: logId, partitions } = log
  const processor = new Processor({ program, state, tables, logId, partitions, checked: false })
  processor.restore()
  const all = Array.from({ length: partitions }, (_, partition) => partition)
  await replay(log, processor, all, (applied) => {
    progress(applied)
    return state.dirtyCount < rowsMax ? undefined : processor.checkpoint()
  })
  return new Map([...program.app.tables.keys()].map((name) => [name, digest([tables.get(name)!])]))
}

import { Checkpointer } from '../generation/checkpointer.ts'
import { Generation } from '../generation/generation.ts'
import { baseOf, lineageOf } from '../log/control-history.ts'
import { replay } from '../processor/replay.ts'
import type { Pace } from '../reprocess/pace.ts'
import { ReplayedOrder, type TracedRecord } from './feed.ts'
import type { ViewsHost } from './host.ts'

/** The store of the generation that is derived for views, and then dropped. */
const storeName = 'view.derive'
/** So few records behind the live generation its traces serve. */
const nearRecords = 1_000
/** Records are folded when so many have gathered. */
export const gatheredMax = 1_024

/**
 * Derives the live generation again from the first record, in a store that is dropped afterwards, and hands
 * on what views fold, in the order of `TraceFeed`. A crash ends it, and the next start begins anew.
 * @returns the positions from which the traces of the live generation serve; undefined if it was ended
 */
export async function deriveAgain(
  host: ViewsHost,
  live: Generation,
  given: {
    readonly fold: (records: readonly TracedRecord[], from: Generation) => Promise<void>
    readonly isEnded: () => boolean
    readonly pace: Pace
  },
): Promise<number[] | undefined> {
  const { storage, codes, generations, checkpointRows } = host
  const { fold, isEnded, pace } = given
  const { history, version } = live.processor
  const base = baseOf(history, live.number) ?? version ?? live.program.version
  const openStore: typeof generations.openStore = (_, collections, anew) =>
    storage.openStore(storeName, collections, anew)
  const lineage = lineageOf(history, live.number)
  const program = () => codes.programOf(base)
  const generation = await Generation.open({ ...generations, openStore }, lineage, program, true)
  const order = new ReplayedOrder()
  const flush = () => fold(order.take(), generation)
  const checkpointer = new Checkpointer(() => generation, { rows: checkpointRows })
  const rest = async () => {
    // Before a checkpoint, which may forget outcomes.
    await flush()
    await checkpointer.saveIfDue()
    await pace.rest()
    return isEnded() ? 'stop' : undefined
  }
  try {
    for (;;) {
      const frontier = host.frontier()
      const { positions } = (await host.live()).processor
      const ends = [...positions]
      const behind = ends.reduce((sum, end, i) => sum + end - generation.processor.position(i), 0)
      pace.begin()
      await replay(storage.log, generation, {
        ends,
        frontier,
        atOnce: 64,
        applied: (applied) => order.add(applied, generation.program.app),
        pause: () => (order.ready >= gatheredMax || isEnded() ? rest() : pace.rest()),
      })
      order.pass(frontier)
      await flush()
      if (isEnded()) return undefined
      if (behind > nearRecords) continue
      const next = [...generation.processor.positions]
      for (const { partition, offset } of order.waiting.toReversed())
        next[partition] = Math.min(next[partition]!, offset)
      return next
    }
  } finally {
    await checkpointer.saving?.catch(() => {})
    await generation.close()
    await storage.dropStore(storeName)
  }
}

import type { GenerationHost } from '../generation/generation.ts'
import { Generation } from '../generation/generation.ts'
import { type Imprint, imprintOf } from '../generation/imprint.ts'
import { recordsBefore } from '../log/partitions.ts'
import { replay } from '../processor/replay.ts'

/** The changed rows that are kept in memory at most. */
const rowsMax = 50_000

/** The state of a generation at the end of a log. */
interface DerivedDigests {
  /** The number of records that it has applied. */
  readonly records: number
  readonly imprint: Imprint
  /** The tables of the app in force there. */
  readonly tables: ReadonlySet<string>
  /** Whether nothing that it emitted is still under way. */
  readonly isDrained: boolean
}

/**
 * Derives what comes in a log after the checkpoint of a generation, or all of it when there is none, with the
 * code that was in force at each place.
 * @param lineage the generation, and those whose place it takes; see `lineageOf`
 * @param base the version of the generation's code at the beginning of the log
 */
export async function derivedDigests(
  host: GenerationHost,
  lineage: readonly number[],
  base: string,
  progress: (records: number) => void,
): Promise<DerivedDigests> {
  const generation = await Generation.open(host, lineage, () => host.programOf(base))
  try {
    await replay(host.log, generation, {
      pause(applied) {
        progress(applied)
        return generation.state.checkpointsDirty(rowsMax) < 1 ? undefined : generation.processor.checkpoint()
      },
    })
    const { program, processor } = generation
    return {
      records: recordsBefore(processor.positions),
      imprint: imprintOf(generation),
      tables: new Set(program.app.tables.keys()),
      isDrained: processor.isDrained,
    }
  } finally {
    await generation.close()
  }
}

import type { App } from '../app/index.ts'
import { Generation, type GenerationHost } from '../generation/generation.ts'
import { type Imprint, imprintOf } from '../generation/imprint.ts'
import { recordsBefore } from '../log/partitions.ts'
import type { Applied } from '../processor/applied.ts'
import { replay } from '../processor/replay.ts'

/** The changed rows that are kept in memory at most. */
const rowsMax = 50_000

interface DerivedDigests {
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
 * @param watch sees what is applied, now and then with the generation, and at the end
 */
export async function derivedDigests(
  host: GenerationHost,
  lineage: readonly number[],
  base: string,
  progress: (records: number) => void,
  watch?: {
    readonly add: (applied: Applied, app: App) => void
    readonly isDue: boolean
    readonly ended: () => void
    readonly fold: (generation: Generation) => Promise<void>
  },
): Promise<DerivedDigests> {
  const generation = await Generation.open(host, lineage, () => host.programOf(base))
  try {
    const save = async (isFull: boolean) => {
      await watch?.fold(generation)
      if (isFull) await generation.processor.checkpoint()
    }
    await replay(host.log, generation, {
      ...(watch && { applied: (applied) => watch.add(applied, generation.program.app) }),
      pause(applied) {
        progress(applied)
        const isFull = generation.processor.checkpointsDirty(rowsMax) >= 1
        return isFull || watch?.isDue ? save(isFull) : undefined
      },
    })
    watch?.ended()
    await watch?.fold(generation)
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

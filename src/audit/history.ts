import type { GenerationHost } from '../derivation/generation.ts'
import { Generation } from '../derivation/generation.ts'
import { replay } from '../derivation/replay.ts'
import { digest } from '../state/digest.ts'

/** Changed rows gather in memory up to this many. */
const rowsMax = 50_000

/**
 * Derives what comes in a log after the checkpoint of a generation, or all of it when there is none, with the code that was
 * in force at each place.
 * @param base the version of the generation's code at the beginning of the log
 * @returns the digest of each table of the app that is in force at the end
 */
export async function derivedDigests(
  host: GenerationHost,
  number: number,
  base: string,
  progress: (records: number) => void,
): Promise<ReadonlyMap<string, string>> {
  const generation = await Generation.open(host, number, () => host.programOf(base))
  try {
    await replay(host.log, generation, {
      pause(applied) {
        progress(applied)
        return generation.state.dirtyCount < rowsMax ? undefined : generation.processor.checkpoint()
      },
    })
    const { program, tables } = generation
    return new Map([...program.app.tables.keys()].map((name) => [name, digest([tables.get(name)!])]))
  } finally {
    await generation.close()
  }
}

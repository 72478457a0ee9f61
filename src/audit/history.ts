import { violations } from '../constraint/tables.ts'
import { earlyResults } from '../derivation/early-results.ts'
import { effects } from '../effect/outbox.ts'
import { Generation, type GenerationHost } from '../generation/generation.ts'
import { recordsBefore } from '../log/partitions.ts'
import { replay } from '../processor/replay.ts'
import { canonicalRows, digestOf, type NamedEntries } from '../state/digest.ts'
import type { TableState } from '../state/table.ts'

/** The changed rows that are kept in memory at most. */
const rowsMax = 50_000

/** The state of a generation at the end of a log. */
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

/** The version of imprints: what they cover, and how. */
const imprintVersion = 3

/** One hash over everything that a generation has derived, and its parts. */
interface Imprint {
  readonly sha256: string
  /** By the name of a table, `outcomes`, `traces`, `position`, or the collection of an index. */
  readonly parts: ReadonlyMap<string, string>
}

/**
 * Hashes everything that a generation has derived: the rows of all tables and their indexes, outcomes,
 * traces, and where each channel is. It is a function of the log up to the positions and of the code: what
 * the watermarks forget does not count, whether it has been removed or not.
 */
function imprintOf({ tables, processor }: Pick<Generation, 'tables' | 'processor'>): Imprint {
  const parts = new Map<string, string>()
  const add = (part: NamedEntries) => parts.set(part[0], digestOf([part]))
  const before = processor.watermarks.lowest
  for (const table of tables.values()) {
    add([table.name, canonicalRows(keptRows(table, before))])
    // Entries of rows that are forgotten are in the index until they are removed.
    if (!forgotten.has(table.name))
      for (const [name, entries] of table.indexEntries()) add([name, keysOf(entries)])
  }
  for (const part of processor.derived()) add(part)
  const all = [...parts].map(([name, hash]) => [name, [['', hash]]] as const)
  return { sha256: digestOf([...all, ['imprint', [['', `${imprintVersion}`]]]]), parts }
}

/** The rows of system tables that `Processor.forget` may have removed. */
const forgotten = new Map<string, (row: OldRow) => boolean>([
  [effects.name, ({ state }) => state === 'done'],
  [earlyResults.name, () => true],
  [violations.name, ({ state }) => state === 'resolved'],
])

interface OldRow {
  readonly at: number
  readonly state?: string
}

function* keptRows(table: TableState, before: number): Iterable<[string, unknown]> {
  const mayForget = forgotten.get(table.name)
  for (const [key, value] of table.rows()) {
    const row = value as OldRow
    if (mayForget === undefined || row.at >= before || !mayForget(row)) yield [key, row]
  }
}

function* keysOf(entries: Iterable<[key: string, true]>): Iterable<[string, string]> {
  for (const [key] of entries) yield [key, '']
}

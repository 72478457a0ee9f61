import { victims, violations } from '../constraint/tables.ts'
import { earlyResults } from '../derivation/early-results.ts'
import { effects } from '../effect/outbox.ts'
import { canonicalRows, digestOf, type NamedEntries } from '../state/digest.ts'
import { decodeKey, encodeKey } from '../state/keys.ts'
import type { TableState } from '../state/table.ts'
import type { Generation } from './generation.ts'

/** The version of imprints: what they cover, and how. */
const imprintVersion = 4

/** One hash over everything that a generation has derived, and its parts. */
export interface Imprint {
  readonly sha256: string
  /** By the name of a table, `outcomes`, `traces`, `position`, or the collection of an index. */
  readonly parts: ReadonlyMap<string, string>
}

/**
 * Hashes everything that a generation has derived: the rows of all tables and their indexes, outcomes,
 * traces, and where each channel is. It is a function of the log up to the positions and of the code: what
 * the watermarks forget does not count, whether it has been removed or not.
 */
export function imprintOf(generation: Pick<Generation, 'tables' | 'processor'>): Imprint {
  const parts = new Map<string, string>()
  for (const part of partsOf(generation)) parts.set(part[0], digestOf([part]))
  const all = [...parts].map(([name, hash]) => [name, [['', hash]]] as const)
  return { sha256: digestOf([...all, ['imprint', [['', `${imprintVersion}`]]]]), parts }
}

/** The parts of an imprint, whose entries are read when they are iterated. */
export function* partsOf({
  tables,
  processor,
}: Pick<Generation, 'tables' | 'processor'>): Iterable<NamedEntries> {
  const before = processor.watermarks.lowest
  const isKept = (table: TableState, row: unknown) =>
    !(forgotten.get(table.name)?.(row as OldRow) && (row as OldRow).at < before)
  const ofViolations = tables.get(violations.name)!
  // A violation goes after its victims.
  const hasViolation = (victim: string) => {
    const row = ofViolations.get(encodeKey(decodeKey(['string', 'string'], victim).parts))
    return row !== undefined && isKept(ofViolations, row)
  }
  function* keptRows(table: TableState): Iterable<[string, unknown]> {
    for (const [key, row] of table.rows())
      if (table.name === victims.name ? hasViolation(key) : isKept(table, row)) yield [key, row]
  }
  for (const table of tables.values()) {
    yield [table.name, canonicalRows(keptRows(table))]
    // Entries of rows that are forgotten are in the index until they are removed.
    if (!forgotten.has(table.name))
      for (const [name, entries] of table.indexEntries()) yield [name, keysOf(entries)]
  }
  yield* processor.derived()
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

/** The entries of an index, as texts. */
export function* keysOf(entries: Iterable<[key: string, true]>): Iterable<[string, string]> {
  for (const [key] of entries) yield [key, '']
}

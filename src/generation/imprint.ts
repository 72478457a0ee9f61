import { violations } from '../constraint/tables.ts'
import { earlyResults } from '../derivation/early-results.ts'
import { effects } from '../effect/outbox.ts'
import { canonicalRows, digestOf, type NamedEntries } from '../state/digest.ts'
import type { TableState } from '../state/table.ts'
import type { Generation } from './generation.ts'

/** The version of imprints: what they cover, and how. */
const imprintVersion = 3

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
export function imprintOf({ tables, processor }: Pick<Generation, 'tables' | 'processor'>): Imprint {
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

import type { Position } from '../log/log.ts'
import type { TracedDerivation } from '../processor/trace.ts'
import type { Traces } from '../processor/traces.ts'
import type { StoryStep } from './story.ts'

/** One change of a row. */
export interface RowChange {
  /** The record with which it came; and its number among the changes of the row that came with that. */
  readonly token: string
  readonly nth: number
  /** Log time, in milliseconds since 1970. */
  readonly at: number
  /**
   * The derivation that made it: a step of the story of its request; or `filled`: the row was made from the
   * past, for a new table.
   */
  readonly kind: StoryStep['kind'] | 'filled'
  readonly type: string
  /** Of that request, or of the promotion that it follows from; left out if the row was filled. */
  readonly requestId?: string
  readonly principal?: string
  /** The row before and after; undefined where there was none. */
  readonly before: unknown
  readonly after: unknown
}

/** Whether a derivation is a step of a story. */
export const isStep = (kind: TracedDerivation['kind']): kind is StoryStep['kind'] =>
  kind !== 'waits' && kind !== 'decides' && kind !== 'filled'

/** The place of a change: the offset of its record, and its number there. */
export type ChangePlace = readonly [offset: number, nth: number]

/** Some changes of a row, the last first. */
export interface RowHistory {
  readonly changes: readonly RowChange[]
  /** Older ones are before this place; undefined if there are none. */
  readonly next: ChangePlace | undefined
  /** The first position whose changes are kept. */
  readonly keptFrom: string
  /** How many records were looked at. */
  readonly scanned: number
}

interface TracedChange {
  readonly place: ChangePlace
  readonly at: number
  readonly by: TracedDerivation
  readonly change: TracedDerivation['changes'][number]
}

/** After so many records, or characters of changes, a reading ends. */
const scannedMax = 10_000
const charactersMax = 1024 * 1024

/**
 * Finds changes of a row in the traces of its partition, the last first, from an offset downwards.
 * @param end the number at which the changes of that record end
 */
export function changesBack(
  traces: Traces,
  { partition, offset: from }: Position,
  end: number,
  [table, key]: readonly [table: string, key: string],
  limit: number,
): Pick<RowHistory, 'next' | 'scanned'> & { readonly found: readonly TracedChange[] } {
  const found: TracedChange[] = []
  let [scanned, characters] = [0, 0]
  const text = JSON.stringify([table, key]).slice(1, -1)
  for (const { offset, trace } of traces.back({ partition, offset: from + 1 }, text)) {
    if (scanned === scannedMax || characters > charactersMax) return { found, scanned, next: [offset + 1, 0] }
    scanned++
    if (trace === undefined) continue
    const changes = trace.derivations
      .flatMap((by) => by.changes.map((change) => ({ by, change })))
      .filter(({ change }) => change[0] === table && change[1] === key)
    for (let nth = Math.min(changes.length, offset === from ? end : changes.length) - 1; nth >= 0; nth--) {
      if (found.length === limit) return { found, scanned, next: found.at(-1)!.place }
      found.push({ place: [offset, nth], at: trace.time, ...changes[nth]! })
      characters += JSON.stringify(changes[nth]!.change).length
    }
  }
  return { found, scanned, next: undefined }
}

import { orAborted } from '../clock.ts'
import { changeError } from '../failure.ts'
import { offsetsIn } from '../log/partitions.ts'
import type { Trace } from '../processor/trace.ts'

interface FeedSource {
  /** The offset of the record that each partition applies next. */
  positions(): readonly number[]
  traces(partition: number, offset: number, limit: number): readonly { offset: number; trace: Trace }[]
  /** The first offset of a partition from which all changes are kept. */
  keptFrom(partition: number): number
  /** Resolves when the next record is applied; rejects if no more will be. */
  next(): Promise<void>
}

interface FeedItem {
  /** The position in the feed after this record. */
  readonly position: string
  readonly partition: number
  readonly offset: number
  readonly trace: Trace
}

/** How many traces are read in one turn of the event loop. */
const tracesPerRead = 256

/**
 * Iterates over the records that changed rows, from a position on and then as they are applied. It reads
 * stored traces, so a slow reader costs no memory.
 * @param from default: the present position
 * @param withEffects also the records with which effects were asked for or ended
 */
export async function* feed(
  source: FeedSource,
  from: string | undefined,
  signal: AbortSignal | undefined,
  withEffects = false,
): AsyncGenerator<FeedItem> {
  const at = from === undefined ? [...source.positions()] : offsetsIn(from, source.positions())
  if (at === undefined) throw unknownPosition(from!)
  while (!signal?.aborted) {
    // Before reading, so that no record that is applied meanwhile is missed.
    const next = source.next()
    next.catch(() => {})
    let isBehind = false
    for (let partition = 0; partition < at.length; partition++) {
      const end = source.positions()[partition]!
      if (at[partition]! < source.keptFrom(partition)) throw unknownPosition(at.join('.'))
      if (at[partition]! === end) continue
      const traces = source.traces(partition, at[partition]!, tracesPerRead)
      for (const { offset, trace } of traces) {
        at[partition] = offset + 1
        const isAsked = ({ changes, effects, kind }: Trace['derivations'][number]) =>
          changes.length > 0 || (withEffects && (effects.length > 0 || kind === 'result'))
        if (trace.derivations.some(isAsked)) yield { position: at.join('.'), partition, offset, trace }
        if (signal?.aborted) return
      }
      // A record that the log holds twice leaves no second trace.
      if (traces.length < tracesPerRead) at[partition] = Math.max(at[partition]!, end)
      isBehind = true
    }
    if (!isBehind) await orAborted(next, signal)
  }
}

const unknownPosition = (text: string) =>
  changeError(
    'position-unknown',
    `The position ${JSON.stringify(text)} does not belong to this log, or the changes after it are no longer kept. ` +
      'Read the tables again, and continue from the current position.',
  )

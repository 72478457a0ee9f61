/**
 * Books tours while the partition of their shows cannot be written, or, without tours to book, while it can,
 * and then says what it has.
 */
import { createEngine, type Engine } from 'hence'
import { systemClock } from '../../src/clock.ts'
import { partitionOf } from '../../src/log/partitions.ts'
import { openDirectory } from '../../src/storage/storage.ts'
import type * as made from '../apps/tours.ts'
import { appsOf } from '../apps.ts'
import { CutStorage } from '../cut-log.ts'

export interface Task {
  readonly directory: string
  readonly shows: string[]
  /** The partition of the shows. */
  readonly judge: number
  readonly limit: number
  /** The tours to book; the others were booked before. */
  readonly from: number
  readonly to: number
  readonly queueBytesMax: number
}

export type Told =
  | { readonly kind: 'booked'; readonly count: number; readonly at: Waiting }
  | { readonly kind: 'closed'; readonly at: Waiting }
  | {
      readonly kind: 'judged'
      readonly denied: readonly [string, readonly string[]][]
      readonly digest: string
    }

export interface Waiting {
  readonly waitingBytes: number
  readonly heldBytes: number
  readonly unwrittenMs: number
  readonly heapBytes: number
}

const { tours } = appsOf<typeof made>(import.meta.resolve('../apps/tours.ts'))
type Tours = ReturnType<typeof made.tours>

const partitions = 3
const tell = (told: Told) => process.send!(told)

async function run({ directory, shows, judge, limit, from, to, queueBytesMax }: Task): Promise<void> {
  const report = () => {}
  const storage = await openDirectory({ directory, partitions, clock: systemClock, report })
  const line = new CutStorage(storage)
  // A new log needs all of its partitions.
  if (from > 0 && to > from) line.cut(judge)
  const engine = await createEngine<Tours>({
    app: await tours(limit),
    data: line.storage,
    ...{ queueBytesMax, report, checkpointRows: 5_000 },
  })
  if (to > from) line.cut(judge)
  const book = (n: number) => {
    let tour = `tour ${n}`
    while (partitionOf(tour, partitions) === judge) tour += '-'
    return engine.submit('book', { tour, shows }, { requestId: `${n}`.padEnd(200, '-') })
  }
  for (let n = from; n < to; n += 10) {
    await Promise.all(Array.from({ length: 10 }, (_, i) => book(n + i)))
    tell({ kind: 'booked', count: n + 10, at: waitingIn(engine) })
  }
  if (to === from) {
    await engine.idle()
    const rows = await engine.scan('booked')
    const denied = rows.map(({ key, value }): [string, string[]] => [`${key[0]}`, [...value.denied]])
    tell({ kind: 'judged', denied, digest: await engine.digest() })
  }
  const at = waitingIn(engine)
  await engine.close()
  tell({ kind: 'closed', at })
  process.disconnect?.()
}

function waitingIn(engine: Engine<Tours>): Waiting {
  const { waitingBytes, heldBytes, unwrittenMs } = engine.stats()
  return { waitingBytes, heldBytes, unwrittenMs, heapBytes: process.memoryUsage().heapUsed }
}

process.on('message', (task: Task) => void run(task))

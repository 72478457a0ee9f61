import type { Log } from '../../src/log/log.ts'
import { partitionOf } from '../../src/log/partitions.ts'
import { decodeRecord } from '../../src/log/record.ts'
import type { Sending } from '../apps/relays.ts'

// A plain model of how a generation of other code orders its messages, after docs/ARCHITECTURE.md, "The
// position of a new event". It knows nothing of `src/processor`: it reads the whole log first, and does one
// thing after the other.

interface Position {
  readonly partition: number
  readonly offset: number
}

type Entry = Position & { readonly time: number } & (
    | {
        readonly kind: 'request'
        readonly froms: readonly [string, string]
        readonly all: readonly Sending[]
      }
    /** An event of the live generation. The texts of messages are unique, so they stand for ids. */
    | { readonly kind: 'event'; readonly text: string; readonly cause: Position }
    | { readonly kind: 'other' }
  )

interface Message {
  readonly source: number
  readonly time: number
  readonly cause: Position
  /** A request that moved has its own position as the cause of all that it sends. */
  readonly moved?: readonly Sending[]
  readonly from: string
  readonly sending?: Sending
  readonly isPlaced: boolean
}

const same = (a: Position, b: Position) => a.partition === b.partition && a.offset === b.offset

/** Reads a log up to the promotion. */
async function entriesOf(log: Log): Promise<Entry[][]> {
  const all: Entry[][] = []
  for (let partition = 0; partition < log.partitions; partition++) {
    const entries: Entry[] = []
    all.push(entries)
    read: for await (const { offset: first, time, records } of log.read(partition, 0)) {
      for (const [i, bytes] of records.entries()) {
        const record = decodeRecord(bytes)
        const at = { partition, offset: first + i, time }
        if (record.kind === 'control' && record.control.type === 'promotion') break read
        if (record.kind === 'request') {
          const { froms, all: sendings } = JSON.parse(record.input)
          entries.push({ ...at, kind: 'request', froms, all: sendings })
        } else if (record.kind === 'event') {
          const cause = { partition: record.causePartition, offset: record.causeOffset }
          entries.push({ ...at, kind: 'event', text: JSON.parse(record.data).text, cause })
        } else entries.push({ ...at, kind: 'other' })
      }
    }
  }
  return all
}

/** What came to each place by version 1 of the code, in order. */
export async function diariesOf(log: Log): Promise<Map<string, string[]>> {
  const entries = await entriesOf(log)
  const partitions = entries.length
  const next = entries.map(() => 0)
  const times = entries.map(() => 0)
  const diaries = new Map<string, string[]>()
  /** By target, the queues of its sources; those of moved requests behind them. */
  const queues = entries.map(() => Array.from({ length: 2 * partitions }, () => [] as Message[]))
  const home = (key: string) => partitionOf(key, partitions)

  const isRecordedAhead = (target: number, text: string, cause: Position) =>
    entries[target]!.slice(next[target]!).some(
      (each) => each.kind === 'event' && each.text === text && same(each.cause, cause),
    )

  /** Sends, and derives at once what stays in the partition. */
  function derive(
    at: number,
    time: number,
    key: string,
    all: readonly Sending[],
    cause: Position,
    isBetween: boolean,
  ) {
    times[at] = Math.max(times[at]!, time)
    const staying: { from: string; sending: Sending }[] = []
    const send = (from: string, sendings: readonly Sending[]) => {
      const mine = sendings.filter(({ ranks }) => ranks[1] !== null)
      mine.sort((a, b) => a.ranks[1]! - b.ranks[1]!)
      for (const sending of mine) {
        const target = home(sending.to)
        if (target === at) staying.push({ from, sending })
        else {
          const isPlaced = !isBetween && isRecordedAhead(target, sending.text, cause)
          queues[target]![at]!.push({ source: at, time, cause, from, sending, isPlaced })
        }
      }
    }
    const arrive = ({ to, text, next }: Sending) => {
      diaries.set(to, [...(diaries.get(to) ?? []), text])
      send(to, next)
    }
    send(key, all)
    for (let stay = staying.shift(); stay; stay = staying.shift()) arrive(stay.sending)
  }

  function apply(target: number, message: Message, time: number, place?: Position) {
    const { from, sending, moved, cause } = message
    if (moved !== undefined) return derive(target, time, from, moved, cause, false)
    diaries.set(sending!.to, [...(diaries.get(sending!.to) ?? []), sending!.text])
    const between = { partition: target, offset: next[target]! }
    derive(target, time, sending!.to, sending!.next, place ?? between, place === undefined)
  }

  /** Applies messages without a place, in rounds, as long as they come before a time. */
  function applyDue(before: number) {
    for (;;) {
      const heads: { target: number; queue: Message[]; at: number }[] = []
      for (const [target, all] of queues.entries()) {
        for (const queue of all) {
          const [head] = queue
          if (head === undefined || head.isPlaced) continue
          const at = Math.max(head.time, times[target]!)
          if (at < before) heads.push({ target, queue, at })
        }
      }
      if (heads.length === 0) return
      const earliest = Math.min(...heads.map(({ at }) => at))
      const round = heads.filter(({ at }) => at === earliest)
      round.sort((a, b) => {
        const [x, y] = [a.queue[0]!, b.queue[0]!]
        const byCause = x.cause.partition - y.cause.partition || x.cause.offset - y.cause.offset
        return a.target - b.target || byCause || x.source - y.source || (x.moved ? 1 : 0) - (y.moved ? 1 : 0)
      })
      for (const { target, queue } of round) {
        apply(target, queue[0]!, earliest)
        queue.shift()
      }
    }
  }

  function takeNext(): boolean {
    const ahead = entries.flatMap((all, partition) => all[next[partition]!] ?? [])
    ahead.sort((a, b) => a.time - b.time || a.partition - b.partition)
    if (ahead.length === 0) return false
    applyDue(ahead[0]!.time)
    const entry = ahead.find(
      (each) => each.kind !== 'event' || next[each.cause.partition]! > each.cause.offset,
    )!
    const { partition, time } = entry
    if (entry.kind === 'request') {
      const [, key] = entry.froms
      if (home(key) === partition) derive(partition, time, key, entry.all, entry, false)
      else {
        const moved = { source: partition, time, cause: entry, from: key, moved: entry.all, isPlaced: false }
        queues[home(key)]![partitions + partition]!.push(moved)
      }
    } else if (entry.kind === 'event') {
      const { text, cause } = entry
      const isHere = (each: Message) =>
        each.isPlaced && each.sending!.text === text && same(each.cause, cause)
      const queue = queues[partition]!.find((each) => each.some(isHere))
      for (let isLast = queue === undefined; !isLast; queue!.shift()) {
        isLast = isHere(queue![0]!)
        apply(partition, queue![0]!, time, isLast ? entry : undefined)
      }
    }
    times[partition] = Math.max(times[partition]!, time)
    next[partition]!++
    return true
  }

  while (takeNext());
  applyDue(Number.POSITIVE_INFINITY)
  return diaries
}

import type { FoldedChange, FoldedEvent, FoldedRequest } from '../app/index.ts'
import { backgroundPause, orAborted } from '../clock.ts'
import { changeError } from '../failure.ts'
import { senderOf } from '../identity.ts'
import type { Log } from '../log/log.ts'
import { offsetsIn } from '../log/partitions.ts'
import { requestsAt } from '../log/records-at.ts'
import { messagesOf, rootOf, TraceFeed } from './feed.ts'
import type { FoldMessage } from './fold.ts'
import type { ViewsHost } from './host.ts'

/** The names of the messages that are read. */
export interface MessageNames {
  readonly requests?: readonly string[] | undefined
  readonly events?: readonly string[] | undefined
  readonly tables?: readonly string[] | undefined
}

/** A decided request, an event or a changed row, as a view gets it. */
export type LogMessage = {
  readonly name: string
  /** The partition key that the request, or the derivation of the event or the row, is of. */
  readonly key: string
  /** Greater than those of all messages before, compared as text; the same whenever it is read again. */
  readonly sequence: string
  /** The request that it follows from, if it follows from one. */
  readonly requestId?: string
  readonly principal?: string
} & (
  | { readonly kind: 'requests'; readonly message: FoldedRequest }
  | { readonly kind: 'events'; readonly message: FoldedEvent }
  | { readonly kind: 'tables'; readonly message: FoldedChange }
)

export interface MessagePage {
  /** The position after these messages. */
  readonly position: string
  readonly messages: readonly LogMessage[]
}

const tracesAtOnce = 128
/** Log time passes the last records of several partitions in so many milliseconds. */
const passMs = 2

/**
 * Reads messages after a position in the order in which views fold them, and then as they come.
 * @param from default: the oldest that are kept
 */
export async function* messagesAfter(
  host: ViewsHost,
  names: MessageNames,
  from: string | undefined,
  signal: AbortSignal | undefined,
): AsyncGenerator<MessagePage> {
  const takes = (kind: keyof MessageNames, name?: string): boolean =>
    names[kind]?.some((each) => name === undefined || each === name) === true
  const { log } = host.storage
  let live = await host.live()
  const ends = live.processor.positions
  const at = from === undefined ? ends.map((_, i) => live.processor.feedFrom(i)) : positionsOf(from, ends)
  let feed = new TraceFeed(live.number, at, [])
  while (!signal?.aborted) {
    // Before reading, so that no record that is applied meanwhile is missed.
    const next = host.next()
    next.catch(() => {})
    const { app } = live.program
    const { processor } = live
    let records: Awaited<ReturnType<typeof messagesOf>>
    try {
      const taken = feed.take(processor, host.frontier(), tracesAtOnce)
      records = await messagesOf(taken, { app, log, processor }, [{ takes }], from === undefined)
    } catch (error) {
      // A promotion closes what is read, and so does a generation that starts over.
      live = await host.live()
      if (live.processor === processor) throw error
      feed = new TraceFeed(live.number, at, [])
      continue
    }
    const messages: [FoldMessage, sequence: string][] = []
    for (const record of records) {
      at[record.partition] = record.offset + 1
      const folded = record.messages.filter(({ kind, name }) => takes(kind, name))
      for (const [i, message] of folded.entries()) messages.push([message, sequenceOf(at, i)])
    }
    if (messages.length > 0) {
      const senders = await sendersOf(messages, log)
      const withSender = ([{ kind, name, message, derivation }, sequence]: (typeof messages)[number]) => {
        const { partition, offset } = rootOf(derivation)
        const sender = senders.get(`${partition}:${offset}`)
        const key = kind === 'tables' ? (message as FoldedChange).key[0] : derivation.key
        return { kind, name, key, sequence, ...sender, message } as LogMessage
      }
      yield { position: at.join('.'), messages: messages.map(withSender) }
    }
    if (records.length === 0) {
      if (feed.isWaiting) await backgroundPause(host.clock, passMs, signal ?? never)
      else await orAborted(next, signal)
    }
    const now = await host.live()
    if (now.processor !== live.processor) feed = new TraceFeed(now.number, at, [])
    live = now
  }
}

const never = new AbortController().signal

/** Offsets only grow along the order of the messages, so their sum numbers the records. */
function sequenceOf(at: readonly number[], index: number): string {
  const sum = at.reduce((sum, offset) => sum + offset, 0)
  return `${`${sum}`.padStart(16, '0')}.${`${index}`.padStart(6, '0')}`
}

function positionsOf(from: string, ends: readonly number[]): number[] {
  const at = offsetsIn(from, ends)
  if (at !== undefined) return at
  throw changeError('position-unknown', `The position ${JSON.stringify(from)} does not belong to this log.`)
}

/** The requests that messages follow from, by position. */
async function sendersOf(messages: readonly [FoldMessage, string][], log: Log) {
  const roots = messages.map(([{ derivation }]) => rootOf(derivation))
  const found = new Map<string, { requestId: string; principal: string }>()
  for await (const { token, record } of requestsAt(log, roots)) {
    found.set(token, senderOf(record.identity))
  }
  return found
}

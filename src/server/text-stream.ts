import { retryError } from '../failure.ts'
import type { Answer } from './answer.ts'
import type { Serving } from './serving.ts'

/**
 * A body that is made while it is read, part by part. A reader that takes nothing for `stalledMs` is cut off,
 * whether a client that does not read or a host that has dropped the body.
 * @param onEnd called once, however the stream ends, even if it was never read; the parts must end soon after
 */
function textStream(
  parts: () => AsyncIterator<string | Uint8Array>,
  { stalledMs, onEnd }: { readonly stalledMs: number; readonly onEnd: () => void },
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder()
  let isEnded = false
  let texts: AsyncIterator<string | Uint8Array> | undefined
  let isRead = false
  let stalling: NodeJS.Timeout
  const end = () => {
    if (isEnded) return
    clearTimeout(stalling)
    isEnded = true
    texts?.return?.().catch(() => {})
    onEnd()
  }
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        stalling = setTimeout(() => {
          if (isRead) return
          end()
          controller.error(new Error('The body was not read in time.'))
        }, stalledMs).unref()
      },
      // With a high-water mark of 0 it is called for a read, and only then.
      async pull(controller) {
        isRead = true
        try {
          texts ??= parts()
          const { done, value } = await texts.next()
          if (isEnded) return
          isRead = false
          if (!done) {
            controller.enqueue(typeof value === 'string' ? encoder.encode(value) : value)
            stalling.refresh()
            return
          }
          end()
          controller.close()
        } catch (error) {
          if (isEnded) return
          end()
          controller.error(error)
        }
      },
      cancel: end,
    },
    { highWaterMark: 0 },
  )
}

/** An answer that is made while it is read; see `textStream`. No cache may keep it. */
export function streamAnswer(
  { stalledMs }: Serving['limits'],
  type: string,
  parts: () => AsyncIterator<string | Uint8Array>,
  onEnd: () => void,
  headers: Answer['headers'] = {},
): Answer {
  const all = { 'content-type': type, 'cache-control': 'no-store', ...headers }
  return { status: 200, headers: all, body: textStream(parts, { stalledMs, onEnd }) }
}

/** Shorter answers are not counted: each connection has one at most that its client has not read. */
const uncountedMax = 64 * 1024
/** A long answer is sent in parts of so many characters. */
const partLength = 64 * 1024

/** A long answer is counted against its caller's share until the client has taken it. */
export function heldAnswer(
  { bodies: { held }, limits, activity }: Serving,
  principal: string,
  answer: Answer,
): Answer {
  const { body } = answer
  if (typeof body !== 'string' || body.length <= uncountedMax) return answer
  const bytes = Buffer.byteLength(body)
  // An answer beyond the share takes all of it.
  const counted = Math.min(bytes, limits.bodiesBytesPerCaller, limits.bodiesBytes)
  if (!held.take(principal, counted))
    throw retryError(
      'overloaded',
      'More bytes of bodies and of answers that nobody has read are in memory than the server or your share of it ' +
        'holds. Read the answers, and send the same request again a little later.',
    )
  let isCounted = true
  const release = () => {
    if (isCounted) held.release(principal, counted)
    isCounted = false
  }
  activity.begin()
  return {
    ...answer,
    headers: { ...answer.headers, 'content-length': String(bytes) },
    body: textStream(() => partsOf(body, release), {
      stalledMs: limits.stalledMs,
      onEnd: () => {
        release()
        activity.end()
      },
    }),
  }
}

/** @param onLast called before the last part, behind which a client may send its next request at once */
async function* partsOf(text: string, onLast: () => void): AsyncGenerator<string> {
  for (let start = 0; start < text.length; ) {
    let end = start + partLength
    // The halves of a surrogate pair stay together.
    if ((text.charCodeAt(end - 1) & 0xfc00) === 0xd800) end--
    if (end >= text.length) onLast()
    yield text.slice(start, end)
    start = end
  }
}

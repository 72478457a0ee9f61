/**
 * A body that is made while it is read, part by part. Nothing is made before the first read, and a reader
 * that takes nothing for `stalledMs` is cut off, whether a client that does not read or a host that has
 * dropped the body.
 *
 * @param onEnd called once, however the stream ends, even if it was never read; the parts must end soon after
 */
export function textStream(
  parts: () => AsyncIterator<string>,
  { stalledMs, onEnd }: { readonly stalledMs: number; readonly onEnd: () => void },
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder()
  let isEnded = false
  let texts: AsyncIterator<string> | undefined
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
            controller.enqueue(encoder.encode(value))
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

/** What came of sending many requests. */
export interface Run {
  readonly perSecond: number
  /** How long each request took, in milliseconds. */
  readonly latencies: Float64Array
}

/** Sends `count` requests, so many at a time: as one ends the next begins. */
export async function drive<Reply>(
  inFlight: number,
  count: number,
  send: (index: number) => Promise<Reply>,
  check: (reply: Reply) => void = () => {},
): Promise<Run> {
  const latencies = new Float64Array(count)
  let next = 0
  const one = async () => {
    while (next < count) {
      const index = next++
      const at = performance.now()
      check(await send(index))
      latencies[index] = performance.now() - at
    }
  }
  const start = performance.now()
  await Promise.all(Array.from({ length: inFlight }, one))
  return { perSecond: (count / (performance.now() - start)) * 1000, latencies }
}

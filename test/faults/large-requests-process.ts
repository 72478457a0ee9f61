/** Sends large requests, one after the other, prints what is in memory then, and dies. */
import { createEngine } from 'hence'

const [, , app, data, type, count] = process.argv as string[]
const engine = await createEngine({ app: app!, data: data!, report: () => {} })
const { applied } = engine.stats()
const length = 900_000
/** Of the heap and of buffers; pages of the state's file that are mapped do not count. */
let peakMb = 0
for (let i = 0; i < Number(count); i++) {
  const requestId = `${applied}-${i}`
  const key = `k${i}`
  const input = type === 'write' ? { key, text: requestId.padEnd(length) } : { key, length }
  await engine.submit(type as never, input as never, { requestId })
  const { heapUsed, external } = process.memoryUsage()
  peakMb = Math.max(peakMb, (heapUsed + external) / 2 ** 20)
}
process.stdout.write(
  JSON.stringify({
    applied: engine.stats().applied[0],
    digest: await engine.digest(),
    peakMb,
  }),
)
// Killed, so that the next start derives what no checkpoint holds.
process.kill(process.pid, 'SIGKILL')

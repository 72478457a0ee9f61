/**
 * An engine with little memory. It submits the requests it is given, derives and promotes the next code, and
 * prints a line for each report and its digests.
 */
import { createEngine } from 'hence'
import type poison from '../apps/poison.ts'

const [data, partitions, derivationMs, ...requests] = process.argv.slice(2) as [string, ...string[]]
const say = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`)

const engine = await createEngine<typeof poison>({
  app: import.meta.resolve('../apps/poison.ts'),
  data,
  partitions: Number(partitions),
  derivationMs: Number(derivationMs),
  report: ({ code, message }) => void say({ report: code, message }),
})
for (const [i, text] of requests.entries()) {
  const { type, input } = JSON.parse(text)
  await engine.submit(type, input as never, { requestId: `request-${i}` })
}
const { reprocessing } = engine
if ((await reprocessing.status()) === undefined)
  await reprocessing.start({ app: import.meta.resolve('../apps/poison-next.ts') })
const { sha256: diff } = await reprocessing.diff()
await reprocessing.promote({ diff }, { requestId: 'approval' })
say({ digest: await engine.digest() })
await engine.close()

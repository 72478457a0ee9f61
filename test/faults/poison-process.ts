/**
 * An engine with little memory. It submits the requests it is given, prints a line for each reply and alarm,
 * and exits; with the word `stay` it stays until it is killed.
 */
import { createEngine } from 'hence'
import type poison from '../apps/poison.ts'

const [data, ...requests] = process.argv.slice(2) as [string, ...string[]]
const say = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`)

const engine = await createEngine<typeof poison>({
  app: import.meta.resolve('../apps/poison.ts'),
  data,
  partitions: 2,
  report: ({ code, message }) => void say({ report: code, message }),
})
say({ ready: await engine.digest() })
await Promise.all(
  requests
    .filter((text) => text !== 'stay')
    .map(async (text) => {
      const { type, input, id } = JSON.parse(text)
      const { status, token, ...rest } = await engine.submit(type, input as never, { requestId: id })
      say({ id, status, ...('code' in rest && { code: rest.code }), token })
    }),
)
if (requests.includes('stay')) process.stdin.resume()
else await engine.close()

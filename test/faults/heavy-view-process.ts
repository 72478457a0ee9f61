/** An engine with little memory, and with a fold that fills it. It prints its alarms and its views, and ends. */
import { readFile } from 'node:fs/promises'
import { createEngine, type HenceError } from 'hence'

const [, , data, modules] = process.argv as string[]
const engine = await createEngine({
  ...JSON.parse(await readFile(modules!, 'utf8')),
  data: data!,
  report: ({ level, code, message }) => level === 'alarm' && console.log(`${code}: ${message}`),
}).catch(({ code, message }: HenceError) => {
  console.log(`${code}: ${message}`)
  process.exit()
})
await engine.idle()
for (const { name, state } of engine.stats().views) console.log(`${name} ${state}`)
await engine.close()

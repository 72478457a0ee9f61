/** An engine whose handler ends the process for some effects; it prints a line when all have ended. */
import { createEngine } from 'hence'
import type { shop } from '../apps/charges.ts'
import { appsOf } from '../apps.ts'

const [data, ...notes] = process.argv.slice(2) as [string, ...string[]]
const say = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`)
const apps = appsOf<typeof import('../apps/charges.ts')>(import.meta.resolve('../apps/charges.ts'))

const engine = await createEngine<typeof shop>({
  app: await apps.shop(),
  data,
  report: ({ code, message }) => void say({ report: code, message }),
  handlers: {
    charge: () => ({ paid: true }),
    note: {
      deliver({ input: { text }, attempt }) {
        say({ tried: text, attempt })
        if (text.startsWith('deadly')) process.exit(9)
      },
      ...{ triesMax: 3, delayMs: 20, concurrency: 4 },
    },
  },
})
for (const order of notes) await engine.submit('remark', { order, times: 1 }, { requestId: order })
while ((await engine.effects.list({ limit: 1 })).length > 0) await new Promise(setImmediate)
const states = ['done', 'dead'] as const
const [done, dead] = await Promise.all(states.map((state) => engine.effects.list({ state })))
say({ done: done!.length, dead: dead!.map(({ input, tries, error }) => ({ input, tries, error })) })
await engine.close()

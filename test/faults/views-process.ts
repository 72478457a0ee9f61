/** An engine with views under load, until it is killed: their code changes, and another generation is promoted. */
import { createHash } from 'node:crypto'
import { bundleApp, createEngine } from 'hence'
import { v7 } from 'uuid'
import type { sales } from '../apps/sales.ts'

const [, , data, partitions, life] = process.argv as [string, string, string, string, string]
const app = await bundleApp<typeof sales>(import.meta.resolve('../apps/sales.ts'))
const { code, files } = await bundleApp(import.meta.resolve('../apps/sales-views.ts'))
/** Every third process has other code of the views. */
const changed = `${code}\n/* ${Math.floor(Number(life) / 3)} */`
const views = [{ code: changed, hash: createHash('sha256').update(changed).digest('hex'), files }]
const engine = await createEngine({
  app,
  data,
  views,
  partitions: Number(partitions),
  checkpointRows: 40,
  report: () => {},
})
process.send!('ready')

const trade = async (lane: number) => {
  for (let i = 0; ; i++) {
    const n = (i * 7 + lane) % 60
    const input = { order: `o${n}`, sku: `s${n % 5}`, customer: `c${(n + i) % 9}`, cents: 1 + (i % 50) }
    if (i % 3 === 2) await engine.submit('cancel', { order: input.order }, { requestId: v7() })
    else await engine.submit('buy', input, { requestId: v7() })
    await new Promise(setImmediate)
  }
}
const promote = async () => {
  const { reprocessing } = engine
  if (Number(life) % 4 !== 1) return
  if ((await reprocessing.status()) !== undefined) await reprocessing.discard()
  await reprocessing.start({ app }, { again: true, share: 0.5 })
  const { sha256: diff } = await reprocessing.diff()
  await reprocessing.promote({ diff }, { requestId: v7() })
}
await Promise.all([promote(), ...Array.from({ length: 8 }, (_, lane) => trade(lane))])

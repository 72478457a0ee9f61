/** Builds a view beside an idle engine, and again and again beside one that takes requests. */
import { createHash } from 'node:crypto'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { bundleApp, createEngine, type WithViews } from 'hence'
import type app from './app.ts'
import { drive, type Run } from './drive.ts'
import { reportToParent } from './parent.ts'
import { payments } from './payment.ts'
import { processorMicros } from './processor.ts'
import type views from './spending-view.ts'

export interface ViewsBuilt {
  /** Records a second, and processor time for each record, of each time that it was built beside an idle engine. */
  readonly built: readonly { readonly perSecond: number; readonly processorMicros: number }[]
  readonly rows: number
  /** On the disk. */
  readonly bytesPerRow: number
  /** Requests, 64 in flight, without a view and while one is built; in turn. */
  readonly alone: readonly Sent[]
  readonly beside: readonly Sent[]
  /** Records a second that were folded meanwhile. */
  readonly foldedPerSecond: readonly number[]
}

type Sent = Omit<Run, 'latencies'> & { readonly latencies: readonly number[] }

const [data, roundsText, countText] = process.argv.slice(2) as [string, string, string]
const rounds = Number(roundsText)
const engine = await createEngine<WithViews<typeof app, typeof views>>({
  app: import.meta.resolve('./app.ts'),
  data,
})
const bundle = await bundleApp(import.meta.resolve('./spending-view.ts'))
let versions = 0
/** Code that differs, so that the view is built from the first record on. */
const otherCode = () => {
  const code = `${bundle.code}\n/* ${versions++} */`
  return { ...bundle, code, hash: createHash('sha256').update(code).digest('hex') }
}
const status = () => engine.stats().views[0]!
const built: { perSecond: number; processorMicros: number }[] = []
for (let round = 0; round < rounds; round++) {
  await engine.useViews([])
  const [startedAt, before] = [performance.now(), processorMicros()]
  await engine.useViews([otherCode()])
  while (status().state === 'building') await pause(1)
  const { records, error } = status()
  if (error !== undefined) throw new Error(error.message)
  const micros = (processorMicros() - before) / records
  built.push({ perSecond: (records / (performance.now() - startedAt)) * 1000, processorMicros: micros })
}
const rows = (await engine.scan('spending')).length
await engine.close()
const folder = join(data, 'state')
const [name] = (await readdir(folder)).filter((each) => each.startsWith('view.'))
const files = await readdir(join(folder, name!))
const sizes = await Promise.all(
  files.map(async (file) => (await stat(join(folder, name!, file))).blocks * 512),
)
const bytesPerRow = sizes.reduce((sum, size) => sum + size, 0) / rows

const live = await createEngine<typeof app>({ app: import.meta.resolve('./app.ts'), data })
let made = live.stats().applied[0]!
const send = async (count: number): Promise<Sent> => {
  const wishes = payments(made, count)
  made += count
  const run = await drive(64, count, (i) => live.submit('pay', wishes[i]!.input, wishes[i]!))
  return { ...run, latencies: [...run.latencies] }
}
await send(Number(countText))
const [alone, beside]: [Sent[], Sent[]] = [[], []]
const foldedPerSecond: number[] = []
for (let round = 0; round < rounds; round++) {
  await live.useViews([])
  alone.push(await send(Number(countText)))
  const startedAt = performance.now()
  await live.useViews([otherCode()])
  beside.push(await send(Number(countText)))
  foldedPerSecond.push((live.stats().views[0]!.records / (performance.now() - startedAt)) * 1000)
}
await live.close()
const result: ViewsBuilt = { built, rows, bytesPerRow, alone, beside, foldedPerSecond }
reportToParent(result)

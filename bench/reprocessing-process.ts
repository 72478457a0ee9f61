/** Derives everything again beside the live generation, with the same code, and compares both. */
import { createEngine } from 'hence'
import { comparedCollections } from '../src/diff/diff.ts'
import { openLmdbStore } from '../src/state/lmdb-store.ts'
import { differences, summarise } from '../test/differences.ts'
import app from './app.ts'
import { reportToParent } from './parent.ts'
import { childrenOf, processorMicros, processorMicrosOf } from './processor.ts'

export interface Reprocessed {
  readonly records: number
  /** From the start until it had caught up. */
  readonly seconds: number
  /** The processor time of this process and the child in that time; undefined except on Linux. */
  readonly processorMicros: number | undefined
  /** How long `reprocessing.diff` took. */
  readonly diffSeconds: number
  /** The comparison alone: how many entries of both stores it read, and how long it took. */
  readonly entries: number
  readonly compareSeconds: number
  readonly compareMicros: number
}

const [data] = process.argv.slice(2)
const module = import.meta.resolve('./app.ts')
const engine = await createEngine<typeof app>({ app: module, data: data! })
const { reprocessing } = engine
const processorBefore = processorMicros()
const startedAt = performance.now()
await reprocessing.start({ app: module }, { again: true })
const { records } = await reprocessing.caughtUp()
const caughtUpAt = performance.now()
const [child] = childrenOf(process.pid)
const childMicros = child === undefined ? undefined : processorMicrosOf(child)
const deriveMicros = childMicros && childMicros + processorMicros() - processorBefore
const diff = await reprocessing.diff()
const diffedAt = performance.now()
if (diff.differences !== 0) throw new Error(`The same code produced ${diff.differences} differences.`)
await engine.close()

const collections = comparedCollections(app)
const stores = await Promise.all(
  [0, 1].map((generation) =>
    openLmdbStore({ directory: `${data}/state/${generation}`, collections, readOnly: true }),
  ),
)
let entries = 0
for (const store of stores) {
  for (const collection of collections) for (const _ of store.range(collection)) entries++
}
const processorAtCompare = processorMicros()
const compareAt = performance.now()
const [before, after] = stores.map((store) => ({ app, store }))
if (summarise(differences(before!, after!)).differences !== 0) throw new Error('The stores differ.')
const compareSeconds = (performance.now() - compareAt) / 1000
const compareMicros = processorMicros() - processorAtCompare
for (const store of stores) await store.close()
const result: Reprocessed = {
  records,
  seconds: (caughtUpAt - startedAt) / 1000,
  processorMicros: deriveMicros,
  diffSeconds: (diffedAt - caughtUpAt) / 1000,
  entries,
  compareSeconds,
  compareMicros,
}
reportToParent(result)

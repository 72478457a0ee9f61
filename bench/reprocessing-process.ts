/** Derives everything again beside what is live, with the code that is live, and compares the two. */
import { createEngine } from 'hence'
import { comparedCollections, differences } from '../src/diff/diff.ts'
import { summarise } from '../src/diff/diff-summary.ts'
import { openLmdbStore } from '../src/state/lmdb-store.ts'
import app from './app.ts'
import { tellParent } from './parent.ts'

export interface Reprocessed {
  readonly records: number
  /** From its start until it had caught up. */
  readonly seconds: number
  /** How long the diff of the two generations took in the engine. */
  readonly diffSeconds: number
  /** The comparison alone: entries of both stores that it read, and how long that took. */
  readonly entries: number
  readonly compareSeconds: number
}

const [data] = process.argv.slice(2)
const module = import.meta.resolve('./app.ts')
const engine = await createEngine({ app, module, data: data! })
const { reprocessing } = engine
const startedAt = performance.now()
await reprocessing.start({ module }, { again: true })
const { records } = await reprocessing.caughtUp()
const caughtUpAt = performance.now()
const diff = await reprocessing.diff()
const diffedAt = performance.now()
if (diff.differences !== 0) throw new Error(`The same code made ${diff.differences} differences.`)
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
const compareAt = performance.now()
const [before, after] = stores.map((store) => ({ app, store }))
if (summarise(differences(before!, after!)).differences !== 0) throw new Error('The stores differ.')
const compareSeconds = (performance.now() - compareAt) / 1000
for (const store of stores) await store.close()
const told: Reprocessed = {
  records,
  seconds: (caughtUpAt - startedAt) / 1000,
  diffSeconds: (diffedAt - caughtUpAt) / 1000,
  entries,
  compareSeconds,
}
tellParent(told)

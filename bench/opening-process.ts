/** Opens the engine of a directory, reports how long that took, and closes it again. */
import { createEngine } from 'hence'
import type app from './app.ts'
import { reportToParent } from './parent.ts'
import { processorMicros } from './processor.ts'

export interface Opening {
  /** From the start of the process until the engine accepted requests, in seconds. */
  readonly readySeconds: number
  /** The part of it that `createEngine` took. */
  readonly openSeconds: number
  /** The part of that which derived the records since the last checkpoint. */
  readonly tailSeconds: number
  /** Processor time of `createEngine`. */
  readonly processorMicros: number
  readonly records: number
  readonly replayed: number
  /** Peak resident memory, in bytes. */
  readonly residentBytesMax: number
}

const processorBefore = processorMicros()
const startedAt = performance.now()
let derivedFrom: number | undefined
const engine = await createEngine<typeof app>({
  app: import.meta.resolve('./app.ts'),
  data: process.argv[2]!,
  progress() {
    derivedFrom ??= performance.now()
  },
})
const readyAt = performance.now()
const processor = processorMicros() - processorBefore
const { applied, replayed } = engine.stats()
const opening: Opening = {
  readySeconds: readyAt / 1000,
  openSeconds: (readyAt - startedAt) / 1000,
  tailSeconds: (readyAt - (derivedFrom ?? readyAt)) / 1000,
  processorMicros: processor,
  records: applied.reduce((sum, count) => sum + count, 0),
  replayed,
  residentBytesMax: process.resourceUsage().maxRSS * 1024,
}
await engine.close()
reportToParent(opening)

/** Imports orders into the shop of the examples, and reports what that cost. */
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { createEngine } from 'hence'
import { importAll } from '../examples/retail/import.ts'
import type shop from '../examples/retail/shop.ts'
import { openSource } from '../examples/retail/source.ts'
import { anonymousBytes } from './memory.ts'
import { reportToParent } from './parent.ts'
import { processorMicros, threadMicros } from './processor.ts'

export interface Imported {
  readonly requests: number
  readonly seconds: number
  /** Processor time for each request, and the part of it that this thread took. */
  readonly processorMicros: number
  readonly threadMicros: number
  /** The most anonymous memory seen, every 20 ms; undefined on systems other than Linux. */
  readonly anonymousBytesMax: number | undefined
  /** Of the directory after the engine is closed. */
  readonly logBytes: number
  readonly otherBytes: number
}

// As `hence start` does.
setFlagsFromString('--heap-growing-percent=100')
const [data, partitions, source] = process.argv.slice(2) as [string, string, string]
const orders = Number(source)
const { submissions } = await openSource(Number.isNaN(orders) ? { csv: source } : { orders })
const engine = await createEngine<typeof shop>({
  app: import.meta.resolve('../examples/retail/shop.ts'),
  data,
  partitions: Number(partitions),
})
let anonymousBytesMax = anonymousBytes()
const watch = setInterval(() => {
  anonymousBytesMax &&= Math.max(anonymousBytesMax, anonymousBytes()!)
}, 20)
const [processorBefore, threadBefore, startedAt] = [processorMicros(), threadMicros(), performance.now()]
let requests = 0
const { failed } = await importAll(engine, submissions(), {
  signal: new AbortController().signal,
  onDecided: () => requests++,
})
await engine.idle()
const seconds = (performance.now() - startedAt) / 1000
const processor = (processorMicros() - processorBefore) / requests
const thread = (threadMicros() - threadBefore) / requests
clearInterval(watch)
if (failed > 0) throw new Error(`${failed} of ${requests} requests failed.`)
await engine.close()
const imported: Imported = {
  requests,
  seconds,
  processorMicros: processor,
  threadMicros: thread,
  anonymousBytesMax,
  logBytes: bytesUnder(join(data, 'log')),
  otherBytes: bytesUnder(data) - bytesUnder(join(data, 'log')),
}
reportToParent(imported)

/** The bytes of the files; of sparse ones those that take room on the disk. */
function bytesUnder(directory: string): number {
  let bytes = 0
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const { size, blocks } = statSync(join(entry.parentPath, entry.name))
    bytes += Math.min(size, blocks * 512)
  }
  return bytes
}

/** Reads the log of a directory from beginning to end, and derives nothing. */
import { openFileLog } from '../src/log/file-log/file-log.ts'
import { decodeRecord } from '../src/log/record.ts'
import { reportToParent } from './parent.ts'
import { processorMicros } from './processor.ts'

export interface Reading {
  readonly seconds: number
  /** Processor time for all of it. */
  readonly processorMicros: number
  readonly records: number
  /** How many of the records are requests. */
  readonly requests: number
}

const log = await openFileLog({ directory: process.argv[2]! })
const processorBefore = processorMicros()
const startedAt = performance.now()
let records = 0
for await (const batch of log.read(0, 0)) records += batch.records.length
const seconds = (performance.now() - startedAt) / 1000
const processor = processorMicros() - processorBefore
let requests = 0
for await (const batch of log.read(0, 0)) {
  for (const bytes of batch.records) if (decodeRecord(bytes).kind === 'request') requests++
}
await log.close()
const reading: Reading = { seconds, processorMicros: processor, records, requests }
reportToParent(reading)

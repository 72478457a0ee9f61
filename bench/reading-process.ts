/** Reads the log of a directory from its beginning to its end and does nothing with it. */
import { openFileLog } from '../src/log/file-log/file-log.ts'
import { tellParent } from './parent.ts'

export interface Reading {
  readonly seconds: number
  readonly records: number
}

const log = await openFileLog({ directory: process.argv[2]! })
const startedAt = performance.now()
let records = 0
for await (const batch of log.read(0, 0)) records += batch.records.length
const reading: Reading = { seconds: (performance.now() - startedAt) / 1000, records }
await log.close()
tellParent(reading)

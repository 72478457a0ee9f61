/**
 * The floor of deriving again: a plain loop over the log that reads each record, parses its input and changes
 * two rows in memory. It validates nothing, keeps no outcome and no trace, and saves nothing.
 */
import { openFileLog } from '../src/log/file-log/file-log.ts'
import { decodeRecord } from '../src/log/record.ts'
import { reportToParent } from './parent.ts'
import type { Payment } from './payment.ts'
import { processorMicros } from './processor.ts'

export interface PlainlyDerived {
  readonly seconds: number
  /** Processor time for all records. */
  readonly processorMicros: number
  readonly records: number
}

const log = await openFileLog({ directory: process.argv[2]! })
const processorBefore = processorMicros()
const startedAt = performance.now()
const accounts = new Map<string, { cents: number; payments: number }>()
const categories = new Map<string, { cents: number; payments: number }>()
let records = 0
for await (const batch of log.read(0, 0)) {
  for (const bytes of batch.records) {
    records++
    const record = decodeRecord(bytes)
    if (record.kind !== 'request') continue
    const { account, category, cents } = JSON.parse(record.input) as Payment['input']
    add(accounts, account, cents)
    add(categories, `${account}\0${category}`, cents)
  }
}

function add(rows: typeof accounts, key: string, cents: number): void {
  const row = rows.get(key)
  if (row === undefined) rows.set(key, { cents, payments: 1 })
  else {
    row.cents += cents
    row.payments++
  }
}

const derived: PlainlyDerived = {
  seconds: (performance.now() - startedAt) / 1000,
  processorMicros: processorMicros() - processorBefore,
  records,
}
await log.close()
reportToParent(derived)

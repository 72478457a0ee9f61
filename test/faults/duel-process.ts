import { randomUUID } from 'node:crypto'
import { writeSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { HenceError } from 'hence'
import { type FileLog, openFileLog } from '../../src/log/file-log/file-log.ts'
import { type CarrierOptions, carrierOf } from './duel-processes.ts'

// One process of a duel: it follows the log, takes it now and then, appends, and prints what it knows about
// its records: `+ partition offset id` when one is acknowledged, `- id` when the log says that it is not
// there.

const [options, directory, skewMs] = process.argv.slice(2)
const carrierOptions: CarrierOptions = JSON.parse(options!)
const partitions = 2
const clock = { now: () => Date.now() + Number(skewMs) }
const print = (line: string) => writeSync(1, `${line}\n`)

let log: FileLog | undefined
let isOwner = false
const unsure = new Map<string, number>()

const append = async (partition: number) => {
  const id = randomUUID()
  unsure.set(id, partition)
  const { offset } = await log!.append(partition, [Buffer.from(id)])
  print(`+ ${partition} ${offset} ${id}`)
  unsure.delete(id)
}

const look = async (partition: number) => {
  const before = [...unsure].filter(([, of]) => of === partition).map(([id]) => id)
  const there = new Set<string>()
  for await (const { records } of log!.read(partition, 0))
    for (const record of records) there.add(String(record))
  for (const id of before) {
    unsure.delete(id)
    if (!there.has(id)) print(`- ${id}`)
  }
}

for (;;) {
  try {
    log ??= await openFileLog({
      ...{ directory: directory!, carrier: carrierOf(carrierOptions), partitions, clock },
      ...{ follow: true, report: () => {}, segmentBytes: 256 * 1024 },
    })
    if (isOwner) {
      await Promise.all(Array.from({ length: 6 }, (_, each) => append(each % partitions)))
      for (let partition = 0; unsure.size > 0 && partition < partitions; partition++) await look(partition)
    } else if (Math.random() < 0.2) {
      await log.claim()
      isOwner = true
      print('claim')
    } else {
      await log.catchUp()
      await pause(20)
    }
  } catch (error) {
    const code = error instanceof HenceError ? error.code : String(error)
    if (code === 'log-taken') {
      print('taken')
      // Its last batches may be there or not; it does not know any more.
      unsure.clear()
      isOwner = false
      await log?.close().catch(() => {})
      log = undefined
    } else if (!(error instanceof HenceError) || error.advice !== 'retry') {
      print(`! ${code} ${error}`)
      process.exit(1)
    } else print(`? ${code}`)
  }
}

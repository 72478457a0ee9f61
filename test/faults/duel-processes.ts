import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import type { Carrier } from 'hence'
import { type KafkaLogOptions, kafkaLog } from 'hence/kafka'
import { type PostgresLogOptions, postgresLog } from 'hence/postgres'
import { openFileLog } from '../../src/log/file-log/file-log.ts'

/** Says which carrier a process opens. */
export type CarrierOptions = { readonly kafka: KafkaLogOptions } | { readonly postgres: PostgresLogOptions }

export function carrierOf(options: CarrierOptions): Carrier {
  return 'kafka' in options ? kafkaLog({ report: () => {}, ...options.kafka }) : postgresLog(options.postgres)
}

export interface ProcessDuel {
  readonly directory: string
  /** The carrier of each process; the first is that of the reader at the end too. */
  readonly carriers: readonly CarrierOptions[]
  /** Another thing that goes wrong, now and then. */
  readonly fault?: () => void
  /** Resolves when nothing is wrong any more, so that all can be read. */
  readonly settled?: () => Promise<void> | undefined
  readonly random: () => number
  /** It goes on until so many faults have struck, and so many records are acknowledged. */
  readonly faults: number
  readonly acknowledged: number
}

/**
 * Real processes with wrong clocks write one log. They are stopped, woken, killed and started again.
 * Afterwards every acknowledged record is at its offset, and none that a process has reported as absent is
 * there.
 */
export async function processDuel(options: ProcessDuel): Promise<Readonly<Record<string, number>>> {
  const { directory, carriers, fault, random } = options
  const acknowledged = new Map<string, string>()
  const absent = new Set<string>()
  const failures: string[] = []
  const figures = {
    acknowledged: 0,
    absent: 0,
    claims: 0,
    taken: 0,
    unsure: 0,
    stops: 0,
    kills: 0,
    records: 0,
  }
  const start = (index: number): ChildProcess => {
    const skew = Math.round((random() - 0.5) * 1e11)
    const args = ['-C', 'hence-source', join(import.meta.dirname, 'duel-process.ts')]
    const given = [JSON.stringify(carriers[index]), join(directory, `process-${index}`), String(skew)]
    const child = spawn(process.execPath, [...args, ...given], { stdio: ['ignore', 'pipe', 'inherit'] })
    createInterface({ input: child.stdout! }).on('line', (line) => {
      const [sign, partition, offset, id] = line.split(' ')
      if (sign === '+') acknowledged.set(`${partition}:${offset}`, id!)
      else if (sign === '-') absent.add(partition!)
      else if (sign === '!') failures.push(line)
      else if (sign === '?') figures.unsure++
      else if (sign === 'claim') figures.claims++
      else if (sign === 'taken') figures.taken++
    })
    return child
  }
  const children = carriers.map((_, index) => start(index))
  // Each kind of fault is to be among them, however they are drawn.
  const isDone = () =>
    failures.length > 0 ||
    (acknowledged.size >= options.acknowledged && figures.stops > 0 && figures.kills > 0)
  for (let struck = 0; failures.length === 0 && (struck < options.faults || !isDone()); struck++) {
    await pause(200 + random() * 300)
    const index = Math.floor(random() * children.length)
    const child = children[index]!
    const drawn = random()
    if (drawn < 0.5) {
      child.kill('SIGSTOP')
      figures.stops++
      await pause(random() * 500)
      child.kill('SIGCONT')
    } else if (drawn < 0.6) {
      const exited = once(child, 'close')
      child.kill('SIGKILL')
      figures.kills++
      await exited
      children[index] = start(index)
    } else fault?.()
  }
  for (const child of children) {
    const closed = child.exitCode === null ? once(child, 'close') : undefined
    child.kill('SIGKILL')
    await closed
  }
  assert.deepEqual(failures, [])
  await options.settled?.()
  const truth = await contents(carriers[0]!, join(directory, 'reader'))
  for (const [token, id] of acknowledged) assert.equal(truth.get(token), id, `the record at ${token}`)
  const all = [...truth.values()]
  assert.equal(new Set(all).size, all.length, 'a record is there twice')
  for (const id of all) assert.ok(!absent.has(id), `${id} was reported as absent`)
  // The copies of the dead continue too, with the same records.
  for (const [index, carrier] of carriers.entries()) {
    assert.deepEqual(await contents(carrier, join(directory, `process-${index}`)), truth)
  }
  Object.assign(figures, { acknowledged: acknowledged.size, absent: absent.size, records: truth.size })
  return figures
}

/** All records of a log, by position, from a copy that is brought up to date. */
async function contents(carrier: CarrierOptions, directory: string): Promise<Map<string, string>> {
  const opened = carrierOf(carrier)
  const quiet = { follow: true, report: () => {}, segmentBytes: 256 * 1024 }
  const log = await openFileLog({ directory, carrier: opened, partitions: 2, ...quiet })
  const found = new Map<string, string>()
  for (let partition = 0; partition < 2; partition++) {
    for await (const { offset, records } of log.read(partition, 0)) {
      for (const [index, record] of records.entries())
        found.set(`${partition}:${offset + index}`, String(record))
    }
  }
  await log.close()
  await opened.close()
  return found
}

import assert from 'node:assert/strict'
import { eventId, RandomStream, requestSeed } from '../../src/derivation/seed.ts'
import type { Log } from '../../src/log/log.ts'
import { decodeRecord, type EventRecord } from '../../src/log/record.ts'
import { hopsMax, keyOf, mix, type Payload } from '../apps/planned.ts'
import type { Action, AppPlan } from './random-app.ts'

/** The rows and outcomes that an engine should have, computed from the log in the simplest way. */
export interface Model {
  /** `key` → mix, `key/slot` → value. */
  readonly rows: Map<string, number>
  /** Request id → outcome. */
  readonly outcomes: Map<string, unknown>
}

/**
 * Reads the log from its beginning. Partitions share only events, and the log holds those with all their
 * data, so each partition is computed alone. At the end every channel must hold exactly the events that its
 * source emitted.
 */
export async function modelOf(plan: AppPlan, log: Log, partitionOf: (key: string) => number): Promise<Model> {
  const rows = new Map<string, number>()
  const outcomes = new Map<string, unknown>()
  const emitted = new Map<string, string[]>()
  const arrived = new Map<string, string[]>()
  const note = (into: Map<string, string[]>, from: number, to: number, what: unknown) => {
    const channel = `${from} → ${to}`
    into.set(channel, [...(into.get(channel) ?? []), JSON.stringify(what)])
  }

  for (let partition = 0; partition < log.partitions; partition++) {
    for await (const batch of log.read(partition, 0)) {
      for (const [i, bytes] of batch.records.entries()) {
        const record = decodeRecord(bytes)
        const offset = batch.offset + i
        const queue: { kind: number; data: Payload; seed: string }[] = []
        const emit = (kind: number, data: Payload, seed: string) => {
          const to = partitionOf(keyOf(data.key))
          if (to === partition) queue.push({ kind, data, seed })
          else
            note(emitted, partition, to, [`event-${kind}`, data, Buffer.from(seed, 'latin1').toString('hex')])
        }
        if (record.kind === 'control') continue
        if (record.kind === 'request') {
          assert.ok(!outcomes.has(record.identity), 'an id stands in the log twice')
          const todo = plan.requests[Number(record.type.at(-1))]!
          const seed = requestSeed(log.id, record.identity)
          outcomes.set(record.identity, derive('request', rows, todo, JSON.parse(record.input), seed, emit))
        } else {
          assert.ok(record.kind === 'event')
          assertArrived(record, arrived, partition, offset, note)
          queue.push({ kind: Number(record.type.at(-1)), data: JSON.parse(record.data), seed: record.id })
        }
        for (let next = queue.shift(); next; next = queue.shift()) {
          derive('reaction', rows, plan.reactions[next.kind]!, next.data, next.seed, emit)
        }
      }
    }
  }
  assert.deepEqual(
    Object.fromEntries(arrived),
    Object.fromEntries(emitted),
    'what arrived is not what was emitted',
  )
  return { rows, outcomes }
}

function assertArrived(
  record: EventRecord,
  arrived: Map<string, string[]>,
  partition: number,
  offset: number,
  note: (into: Map<string, string[]>, from: number, to: number, what: unknown) => void,
): void {
  const channel = arrived.get(`${record.causePartition} → ${partition}`) ?? []
  assert.equal(
    record.channelNumber,
    channel.length,
    `record ${offset} of partition ${partition} is out of its channel's order`,
  )
  note(arrived, record.causePartition, partition, [
    record.type,
    JSON.parse(record.data),
    Buffer.from(record.id, 'latin1').toString('hex'),
  ])
}

/** One derivation on a plain Map; its changes are dropped if it rejects or throws. */
function derive(
  what: 'request' | 'reaction',
  rows: Map<string, number>,
  todo: readonly Action[],
  input: Payload,
  seed: string,
  emit: (kind: number, data: Payload, seed: string) => void,
): unknown {
  const key = keyOf(input.key)
  const mine = new Map([...rows].filter(([name]) => name === key || name.startsWith(`${key}/`)))
  const random = new RandomStream(seed)
  const counts = new Map<number, number>()
  const emissions: [number, Payload, string][] = []
  let state = mix(mine.get(key) ?? 0, input.value)
  for (const each of todo) {
    if (each.do === 'mix') state = mix(state, each.by)
    else if (each.do === 'put') mine.set(`${key}/${each.slot}`, state)
    else if (each.do === 'delete') state = mix(state, mine.delete(`${key}/${each.slot}`) ? 1 : 2)
    else if (each.do === 'random') state = mix(state, Math.floor(random.number() * 2 ** 32))
    else if (each.do === 'scan') {
      for (let slot = 0; slot < 4; slot++) {
        const value = mine.get(`${key}/${slot}`)
        if (value !== undefined) state = mix(state, slot + value)
      }
    } else if (each.do === 'emit') {
      if (input.hops >= hopsMax) continue
      const nth = counts.get(each.event) ?? 0
      counts.set(each.event, nth + 1)
      const data = { key: input.key + each.hop, value: state, hops: input.hops + 1 }
      emissions.push([each.event, data, eventId(seed, `event-${each.event}`, nth)])
    } else if (state % each.when === 0) {
      if (each.do === 'throw')
        return { status: 'failed', code: 'derivation-threw', message: `Error: divided by ${each.when}` }
      if (what === 'request') return { status: 'rejected', reason: 'divided' }
      break // A reaction cannot reject; it just ends.
    }
  }
  for (const name of rows.keys()) if (name === key || name.startsWith(`${key}/`)) rows.delete(name)
  for (const [name, value] of mine) rows.set(name, value)
  rows.set(key, state)
  for (const emission of emissions) emit(...emission)
  return { status: 'accepted', value: { mix: state } }
}

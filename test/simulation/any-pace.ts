import assert from 'node:assert/strict'
import type { AppBundle } from 'hence'
import { Generation } from '../../src/generation/generation.ts'
import { imprintOf } from '../../src/generation/imprint.ts'
import { baseOf, type ControlFact, lineageOf } from '../../src/log/control-history.ts'
import { findControls } from '../../src/log/controls.ts'
import type { Log } from '../../src/log/log.ts'
import { everyPartition } from '../../src/log/partitions.ts'
import { decodeRecord, type EventRecord, type LogRecord } from '../../src/log/record.ts'
import type { Applied } from '../../src/processor/applied.ts'
import { replay } from '../../src/processor/replay.ts'
import type { LiveProgress } from '../../src/reprocess/follower.ts'
import { sandboxed } from '../../src/sandbox/program.ts'
import { memoryStore } from '../../src/state/memory-store.ts'

// A generation that is not live derives the same whether it follows the live one closely or comes later. Here
// it follows a log that is complete, so its pace comes from a seed and not from the machine.

/** By table and key: the row, and where it changed. */
type Rows = ReadonlyMap<string, { readonly row: string; readonly changes: readonly string[] }>

/**
 * Derives a whole log at once, and in steps of random length behind the live generation: one of the
 * generations that were live in it, and a new one with some version of the code. Nothing may differ.
 * @param versions all versions that the log has
 */
export async function assertSameAtAnyPace(
  log: Log,
  versions: readonly AppBundle[],
  random: () => number,
): Promise<void> {
  const { facts } = await findControls(log)
  const one = <T>(all: readonly T[]) => all[Math.floor(random() * all.length)]!
  const steps = await stepsOf(log, random)
  const bases = [
    [one(liveIn(facts)), undefined],
    [freshIn(facts), one(versions).hash],
  ] as const
  for (const [number, version] of bases) {
    const base = version ?? baseOf(facts, number)!
    const what = `generation ${number}, version ${versions.findIndex(({ hash }) => hash === base)}`
    const lineage = lineageOf(facts, number)
    const atOnce = await derived(log, versions, lineage, base, steps.slice(-1))
    const inSteps = await derived(log, versions, lineage, base, steps, random)
    assertSameRows(inSteps.rows, atOnce.rows, `${what}, in steps and at once`)
    assert.deepEqual(inSteps.parts, atOnce.parts, what)
  }
}

/** Derives a live generation from the log, and a new one with the same code. Says which rows differ, and where. */
export async function assertSameAgain(
  log: Log,
  versions: readonly AppBundle[],
  number: number,
  version: string,
): Promise<void> {
  const { facts } = await findControls(log)
  const end = (await stepsOf(log, () => 0)).slice(-1)
  const before = await derived(log, versions, lineageOf(facts, number), baseOf(facts, number) ?? version, end)
  const after = await derived(log, versions, lineageOf(facts, freshIn(facts)), version, end)
  assertSameRows(after.rows, before.rows, `generations ${freshIn(facts)} and ${number}`)
}

const liveIn = (facts: readonly ControlFact[]): number[] => [
  ...new Set([0, ...facts.map(({ generation }) => generation)]),
]

const freshIn = (facts: readonly ControlFact[]): number => Math.max(...liveIn(facts)) + 1

function assertSameRows(actual: Rows, expected: Rows, what: string): void {
  for (const key of new Set([...actual.keys(), ...expected.keys()]))
    assert.deepEqual(actual.get(key), expected.get(key), `${what}: ${key}`)
}

/**
 * @param progress how far the live generation is, at each step
 * @param random before some steps the generation is closed, and opened again; by default before none
 */
export async function derived(
  log: Log,
  versions: readonly AppBundle[],
  lineage: readonly number[],
  base: string,
  progress: readonly LiveProgress[],
  random: () => number = () => 1,
) {
  const programOf = async (version: string) => sandboxed(versions.find(({ hash }) => hash === version)!)
  let store = memoryStore()
  const openStore = async () => {
    store = store.snapshot()
    return store
  }
  const host = { log, openStore, programOf, checked: false }
  const open = () => Generation.open(host, lineage, () => programOf(base))
  let generation = await open()
  const changes = new Map<string, string[]>()
  const applied = ({ partition, offset, trace }: Applied) => {
    for (const { kind, type, changes: changed } of trace.derivations)
      for (const [table, key, , after] of changed) {
        const row = `${table} ${key}`
        const said = changes.get(row) ?? []
        changes.set(row, said)
        said.push(`${partition}:${offset} at ${trace.time} ${kind} ${type} ${JSON.stringify(after)}`)
      }
  }
  for (const { positions: ends, lowWatermark: frontier, inFlight } of progress) {
    if (random() < 0.1) {
      await generation.checkpoint()
      await generation.close()
      generation = await open()
    }
    for (const [target, events] of inFlight.entries())
      for (const event of events) generation.processor.noteRecorded(target, event)
    await replay(log, generation, { ends, frontier, applied, pause: () => undefined })
  }
  const rows = new Map<string, { row: string; changes: readonly string[] }>()
  for (const table of generation.tables.values())
    for (const [key, row] of table.rows()) {
      const name = `${table.name} ${key}`
      rows.set(name, { row: JSON.stringify(row), changes: changes.get(name) ?? [] })
    }
  const { parts } = imprintOf(generation)
  await generation.close()
  return { rows, parts }
}

/** Where a live generation may have been when the log was written, at some moments; the last is the end. */
async function stepsOf(log: Log, random: () => number): Promise<LiveProgress[]> {
  const records: { readonly record: LogRecord; readonly time: number }[][] = []
  for (const partition of everyPartition(log)) {
    const all: (typeof records)[number] = []
    for await (const batch of log.read(partition, 0))
      for (const bytes of batch.records) all.push({ record: decodeRecord(bytes), time: batch.time })
    records.push(all)
  }
  const positions = records.map(() => 0)
  let controls = 0
  const times = records.map(() => 0)
  const next = (partition: number) => records[partition]![positions[partition]!]
  const isReady = (partition: number) => {
    const record = next(partition)?.record
    if (record === undefined) return false
    if (record.kind === 'event') return positions[record.causePartition]! > record.causeOffset
    return record.kind !== 'control' || record.control.number < controls
  }
  const steps: LiveProgress[] = []
  const pass = (partition: number) => {
    times[partition] = next(partition)!.time
    positions[partition]!++
  }
  // Every so often it takes the next record of any partition, at other times that of the earliest.
  for (let chance = random(); positions.some((at, partition) => at < records[partition]!.length); ) {
    const ready = everyPartition(log).filter(isReady)
    if (ready.length === 0) {
      for (const partition of everyPartition(log)) pass(partition)
      controls++
    } else {
      const earliest = Math.min(...ready.map((partition) => next(partition)!.time))
      const first = ready.filter((partition) => next(partition)!.time === earliest)
      const from = random() < chance / 10 ? ready : first
      pass(from[Math.floor(random() * from.length)]!)
    }
    if (random() > 0.3) continue
    if (random() < 0.02) chance = random()
    const to = Math.min(...everyPartition(log).map((p) => next(p)?.time ?? Number.POSITIVE_INFINITY))
    steps.push({
      positions: [...positions],
      lowWatermark: Math.min(Math.max(...times), to),
      inFlight: inFlightAt(records, positions),
    })
  }
  steps.push({ positions: [...positions], lowWatermark: Number.POSITIVE_INFINITY, inFlight: [] })
  return steps
}

/** The events that were emitted by some positions, and not applied. One that the log has twice counts once. */
function inFlightAt(
  records: readonly (readonly { readonly record: LogRecord }[])[],
  positions: readonly number[],
): LiveProgress['inFlight'] {
  return records.map((all, target) => {
    const events = new Map<string, { readonly event: EventRecord; readonly offset: number }>()
    for (const [offset, { record: event }] of all.entries()) {
      if (event.kind !== 'event' || event.causeOffset >= positions[event.causePartition]!) continue
      const name = `${event.id} ${event.causePartition} ${event.causeOffset}`
      if (!events.has(name)) events.set(name, { event, offset })
    }
    return [...events.values()].flatMap(({ event, offset }) => (offset < positions[target]! ? [] : [event]))
  })
}

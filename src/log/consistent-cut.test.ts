import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { endsRightAfter } from './consistent-cut.ts'
import { memoryLog } from './memory-log.ts'
import { encodeControl, encodeEvent, encodeTick, rulesNow } from './record.ts'

// A cut that keeps an event without its cause makes a log that no start accepts; a cut that drops more loses
// durable records.

/** A record of a generated log. */
interface Made {
  readonly partition: number
  /** Of an event: the index of its cause. */
  readonly cause: number | undefined
  /** The number of a control record; every partition has it, one right after the other. */
  readonly control?: number
  /** The time since the record before, in milliseconds. */
  readonly later: number
}

const offsetsOf = (all: readonly Made[]) => {
  const counts = [0, 0, 0]
  return all.map(({ partition }) => counts[partition]!++)
}

async function logOf(all: readonly Made[]) {
  let now = 1
  const log = memoryLog({ partitions: 3, clock: { now: () => now } })
  const offsets = offsetsOf(all)
  const times: number[] = []
  for (const { partition, cause, control, later } of all) {
    now += later
    times.push(now)
    const event = {
      generation: 0,
      rootPartition: 0,
      rootOffset: 0,
      identity: 'i',
      depth: 1,
      type: 't',
      version: 1,
    }
    const record =
      cause === undefined
        ? control === undefined
          ? encodeTick()
          : encodeControl({
              generation: 0,
              control: { type: 'version', number: control, version: 'v', rules: rulesNow },
            })
        : encodeEvent({
            ...event,
            kind: 'event',
            causePartition: all[cause]!.partition,
            causeOffset: offsets[cause]!,
            key: 'k',
            channelNumber: 0,
            id: '0123456789abcdef',
            data: '{}',
          })
    await log.append(partition, [record])
  }
  return { log, offsets, times }
}

/** The same result, computed another way: drops records that break a rule until none does. */
function expected(
  all: readonly Made[],
  offsets: readonly number[],
  times: readonly number[],
  named: ReadonlyMap<number, number>,
): number[] {
  const until = Math.max(
    ...all.flatMap(({ partition }, i) => (named.get(partition) === offsets[i] ? [times[i]!] : [])),
  )
  const kept = all.map(({ partition }, i) =>
    named.has(partition) ? offsets[i]! <= named.get(partition)! : times[i]! <= until,
  )
  const asked = [...kept]
  const partsOf = (number: number) => all.flatMap(({ control }, i) => (control === number ? [i] : []))
  // Partitions that are not named go along with one that passes a control record.
  for (const [i, { control }] of all.entries()) {
    if (control === undefined || !asked[i]) continue
    for (const part of partsOf(control)) if (!named.has(all[part]!.partition)) kept[part] = true
  }
  const isWithout = (i: number): boolean => {
    const { cause, control } = all[i]!
    if (cause !== undefined && !kept[cause]) return true
    if (control === undefined) return false
    return partsOf(control).some(
      (part) =>
        !kept[part] ||
        all.some(({ partition }, j) => j < part && partition === all[part]!.partition && !kept[j]),
    )
  }
  for (let changed = true; changed; ) {
    changed = false
    for (const [i, { partition }] of all.entries()) {
      if (!kept[i] || !isWithout(i)) continue
      for (const [j, other] of all.entries()) if (j >= i && other.partition === partition) kept[j] = false
      changed = true
    }
  }
  return [0, 1, 2].map((p) => all.filter(({ partition }, i) => partition === p && kept[i]).length)
}

const logs = fc
  .array(
    fc.record({
      partition: fc.nat(2),
      back: fc.option(fc.integer({ min: 1, max: 6 }), { nil: undefined }),
      later: fc.nat(1),
      isControl: fc.nat(9).map((n) => n === 0),
    }),
    { minLength: 1, maxLength: 30 },
  )
  .map((steps) => {
    const all: Made[] = []
    for (const { partition, back, later, isControl } of steps) {
      if (isControl) {
        const control = all.filter((each) => each.control !== undefined).length / 3
        for (const part of [0, 1, 2]) all.push({ partition: part, cause: undefined, control, later })
        continue
      }
      const cause = back === undefined ? undefined : all.length - back
      const isEvent = cause !== undefined && cause >= 0 && all[cause]!.partition !== partition
      all.push({ partition, later, cause: isEvent ? cause : undefined })
    }
    return all
  })

test('a cut keeps every record that it can, and no event without its cause', async () => {
  await fc.assert(
    fc.asyncProperty(logs, fc.array(fc.nat(89), { minLength: 1, maxLength: 3 }), async (all, picks) => {
      const { log, offsets, times } = await logOf(all)
      const named = new Map<number, number>()
      for (const pick of picks) {
        const i = pick % all.length
        named.set(all[i]!.partition, offsets[i]!)
      }
      const ends = await endsRightAfter(log, named)
      assert.deepEqual(ends, expected(all, offsets, times, named))
      // A single named record always stays: its causes were durable before it.
      if (named.size === 1) for (const [partition, offset] of named) assert.equal(ends[partition], offset + 1)
    }),
    { numRuns: 1000 },
  )
})

test('a record that does not exist makes no cut', async () => {
  const { log } = await logOf([{ partition: 1, cause: undefined, later: 1 }])
  for (const place of [
    [0, 0],
    [1, 1],
    [3, 0],
  ] as const) {
    await assert.rejects(endsRightAfter(log, new Map([place])), { code: 'token-unknown', advice: 'change' })
  }
})

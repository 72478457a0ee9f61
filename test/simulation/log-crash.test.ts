import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openFileLog } from '../../src/log/file-log/file-log.ts'
import type { Log } from '../../src/log/log.ts'
import { simulatedDisk } from '../../src/testing/simulated-disk.ts'
import { crashAt } from '../crash-points.ts'
import { eachSeed, replayKept, runsOf } from '../kept-failures.ts'
import { randomFrom } from '../random.ts'

// The file log on a disk that fails, crashes, and loses everything that was not synced. A ledger keeps every
// record that was acknowledged or read: it must stay at its offset.

const { runs, isSample } = runsOf(150)
const partitions = 2

type Ending = 'process' | 'power' | 'process, then power'

interface Plan {
  readonly random: () => number
  /** The operation of each life at which the process dies; later lives end in order. */
  readonly crashes: readonly { readonly after: number; readonly ending: Ending }[]
  /** The probability that an operation fails. */
  readonly failing: number
  readonly ignoredSyncs?: ReadonlySet<string>
  /** Called with the label of each sync. */
  readonly onSync?: (label: string) => void
}

/** Acknowledged and read records, by partition and offset; a hole is a record whose fate is unknown. */
class Ledger {
  readonly known: Map<number, { readonly text: string; readonly time: number }>[]
  readonly copies = new Set<string>()

  constructor() {
    this.known = Array.from({ length: partitions }, () => new Map())
  }

  add(partition: number, offset: number, text: string, time: number): void {
    const before = this.known[partition]!.get(offset)
    if (before)
      assert.deepEqual({ text, time }, before, `partition ${partition}, offset ${offset} has changed`)
    else this.known[partition]!.set(offset, { text, time })
  }

  /** Reads everything, compares it with the known records, and adds it to them. */
  async check(log: Log): Promise<void> {
    for (let partition = 0; partition < partitions; partition++) {
      const end = await log.end(partition)
      for (const offset of this.known[partition]!.keys()) {
        assert.ok(offset < end, `partition ${partition} has lost offset ${offset}: it ends at ${end}`)
      }
      let expected = 0
      let time = 0
      let open: { append: string; left: number } | undefined
      for await (const batch of log.read(partition, 0)) {
        assert.equal(batch.offset, expected)
        assert.ok(batch.time >= time, 'log time goes backwards')
        time = batch.time
        for (const [index, record] of batch.records.entries()) {
          const text = record.toString().trimEnd()
          this.add(partition, batch.offset + index, text, batch.time)
          const [append, place] = text.split(':') as [string, string]
          const [nth, of] = place.split('/').map(Number) as [number, number]
          if (nth === 1) assert.equal(open, undefined, 'an append is there in part')
          else assert.deepEqual(open, { append, left: of - nth + 1 }, 'an append is not in one piece')
          open = nth === of ? undefined : { append, left: of - nth }
        }
        expected += batch.records.length
      }
      assert.equal(open, undefined, 'an append is there in part')
      assert.ok(expected >= end, `the log ends at ${end}, but a reading of it at ${expected}`)
    }
  }
}

/** Runs the plan: appends, dies, opens again, checks. Throws if the log breaks a promise. */
async function live(plan: Plan): Promise<{ operations: number; acknowledged: number; copies: number }> {
  const { random } = plan
  const ledger = new Ledger()
  const below = (n: number) => Math.floor(random() * n)
  let life = 0
  let dieAt = Number.POSITIVE_INFINITY
  let reliable = true
  let acknowledged = 0
  let appends = 0
  let now = 1_000_000
  const disk = simulatedDisk({
    random,
    ...(plan.ignoredSyncs && { ignoredSyncs: plan.ignoredSyncs }),
    fault({ number, label }) {
      if (label !== undefined) plan.onSync?.(label)
      if (number >= dieAt) return 'crash'
      return !reliable && random() < plan.failing ? 'fail' : undefined
    },
  })
  const open = () =>
    openFileLog({
      directory: '/data',
      disk,
      partitions,
      segmentBytes: 2_500,
      sealAfterMs: 0,
      newLogId: 'ab'.repeat(16),
      // It goes backward as often as forward.
      clock: { now: () => (now += below(2_001) - 1_000) },
      report({ code, message }) {
        const copy = /copied to (\S+)\)/.exec(message)?.[1]
        assert.ok(code === 'log-torn-tail' && copy, message)
        ledger.copies.add(copy)
      },
    })

  for (; life <= plan.crashes.length; life++) {
    const crash = plan.crashes[life]
    dieAt = crash === undefined ? Number.POSITIVE_INFINITY : disk.operations + 1 + crash.after
    reliable = crash === undefined
    let log: Log | undefined
    const copiesBefore = new Set(ledger.copies)
    try {
      log = await open()
      await ledger.check(log)
      const calls = crash === undefined ? 10 : 200
      const flying: Promise<void>[] = []
      for (let call = 0; call < calls && disk.operations < dieAt; call++) {
        const partition = below(partitions)
        const name = String(++appends)
        const count = 1 + below(4)
        const texts = Array.from({ length: count }, (_, nth) =>
          `${name}:${nth + 1}/${count}`.padEnd(below(random() < 0.1 ? 3_000 : 200)),
        )
        flying.push(
          log
            .append(
              partition,
              texts.map((text) => Buffer.from(text)),
            )
            .then(
              ({ offset, time }) => {
                acknowledged++
                for (const [nth, text] of texts.entries())
                  ledger.add(partition, offset + nth, text.trimEnd(), time)
              },
              () => {},
            ),
        )
        if (random() < 0.3) await flying.at(-1)
        if (random() < 0.03) await ledger.check(log)
      }
      await Promise.all(flying)
      await ledger.check(log)
      await log.close()
    } catch (error) {
      const died = disk.operations >= dieAt
      const failed = !reliable && /simulated error|could not (read|write)/.test(String(error))
      if (!died && !failed) throw error
      if (error instanceof assert.AssertionError) throw error
      await log?.close().catch(() => {})
      // A copy is promised once the opening has succeeded; this one has not.
      if (log === undefined)
        for (const copy of ledger.copies) if (!copiesBefore.has(copy)) ledger.copies.delete(copy)
    }
    dieAt = Number.POSITIVE_INFINITY
    if (crash?.ending === 'process, then power') {
      disk.endProcess()
      reliable = true
      const again = await open()
      await ledger.check(again)
      disk.losePower()
      await again.close().catch(() => {})
    } else if (crash?.ending === 'power') {
      disk.losePower()
    } else {
      disk.endProcess()
    }
    reliable = true
    for (const copy of ledger.copies) {
      const file = await disk.open(copy, 'read')
      assert.ok((await file.size()) > 0, `${copy} is empty`)
    }
  }
  return { operations: disk.operations, acknowledged, copies: ledger.copies.size }
}

function planOf(seed: number): Plan {
  const random = randomFrom(seed)
  const endings: Ending[] = ['process', 'power', 'process, then power']
  const crashes = Array.from({ length: 1 + Math.floor(random() * 5) }, () => ({
    after: Math.floor(random() * (random() < 0.4 ? 40 : 400)),
    ending: endings[Math.floor(random() * 3)]!,
  }))
  return { random, crashes, failing: random() < 0.5 ? 0 : 0.02 }
}

const labels = new Set<string>()

const liveOf = (seed: number) => live({ ...planOf(seed), onSync: (label) => labels.add(label) })

replayKept('log-crash', liveOf)

const name = crashAt(
  'any disk operation',
  `the log loses no acknowledged or read record, ${runs} random lives`,
)
test(name, async (t) => {
  const sum = { operations: 0, acknowledged: 0, copies: 0 }
  for (const found of await eachSeed('log-crash', runs, liveOf)) {
    sum.operations += found.operations
    sum.acknowledged += found.acknowledged
    sum.copies += found.copies
  }
  t.diagnostic(JSON.stringify(sum))
  if (!isSample) return
  assert.ok(sum.acknowledged > runs * 20 && sum.copies > runs / 20, JSON.stringify(sum))
})

for (const ending of ['power', 'process, then power'] as const) {
  test(crashAt('any disk operation', `each of the first 250, then ${ending}`), async () => {
    for (let after = 0; after < 250; after++) {
      try {
        await live({ random: randomFrom(after + 1), crashes: [{ after, ending }], failing: 0 })
      } catch (error) {
        throw new Error(`after ${after} operations`, { cause: error })
      }
    }
  })
}

/** Seeds that show what few others do: the syncs of a partition's directory, and of recovered names. */
const noticing = [813, 976]

test('leaving out any one of the syncs breaks a promise of the log', async () => {
  assert.ok(labels.size > 5, 'the lives before have reached the syncs')
  for (const label of labels) {
    const ignoredSyncs = new Set([label])
    let broken = false
    for (let tries = 0; tries < 3_000 && !broken; tries++) {
      const seed = noticing[tries] ?? tries
      await live({ ...planOf(seed), ignoredSyncs }).catch(() => {
        broken = true
      })
    }
    assert.ok(broken, `nothing shows that the sync "${label}" is left out`)
  }
})

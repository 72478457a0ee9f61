import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type CapacityOptions, createEngine, HenceError, type Mode, type Reply, type Victims } from 'hence'
import type * as made from '../apps/crowd.ts'
import { appsOf } from '../apps.ts'
import { crashAt } from '../crash-points.ts'
import { HandClock } from '../hand-clock.ts'
import { checkProperty, replayKept, runsOf } from '../kept-failures.ts'
import { randomFrom } from '../random.ts'
import { CrashingStorage } from './crashing-storage.ts'

// Code whose constraint is declared otherwise continues (`onCodeChange: 'continue'`) at random moments. A
// plain model says who holds a seat after each of them: verdicts stay, a limit that was set stays, and from
// then on claims give way by the policy that is declared now.

const { crowd } = appsOf<typeof made>(import.meta.resolve('../apps/crowd.ts'))
const { runs } = runsOf(12)

type Declared = Required<Omit<CapacityOptions, 'overbook' | 'waitingList'>> & { readonly overbook: number }
type Moment =
  | { readonly book: number; readonly priority: number }
  | { readonly change: number; readonly limit?: number; readonly by?: number }
  | { readonly end: 'confirm' | 'cancel'; readonly nth: number }
  | { readonly settle: number }
  | { readonly declare: Declared; readonly crashes: boolean }
  | { readonly pass: number }
  | 'crash'

const shows = ['a', 'b', 'c'] as const
const show = fc.nat(shows.length - 1)
const declared: fc.Arbitrary<Declared> = fc.record({
  mode: fc.constantFrom<Mode>('strict', 'loose'),
  limit: fc.nat(5),
  overbook: fc.nat(2),
  victims: fc.constantFrom<Victims>('newest', 'oldest', 'lowest-priority'),
  review: fc.constantFrom('auto', 'auto', 'human'),
  deadlineMs: fc.constantFrom(50, 500),
})
const moment: fc.Arbitrary<Moment> = fc.oneof(
  { weight: 12, arbitrary: fc.record({ book: show, priority: fc.nat(3) }) },
  { weight: 2, arbitrary: fc.record({ change: show, limit: fc.nat(5) }) },
  { weight: 3, arbitrary: fc.record({ change: show, by: fc.integer({ min: -3, max: 3 }) }) },
  {
    weight: 4,
    arbitrary: fc.record({ end: fc.constantFrom('confirm', 'cancel'), nth: fc.nat(20) }),
  },
  { weight: 1, arbitrary: fc.record({ settle: show }) },
  { weight: 4, arbitrary: fc.record({ declare: declared, crashes: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ pass: fc.nat(100) }) },
  { weight: 1, arbitrary: fc.constant('crash') },
)
type World = [first: Declared, partitions: number, checkpointRows: number, moments: Moment[], seed: number]

interface Seat {
  readonly guest: string
  readonly priority: number
  readonly n: number
  confirmed: boolean
}

/** One show, by the rules and by nothing else. */
class Show {
  set: number | undefined
  adjusted = 0
  seats: Seat[] = []
  settled = false
  /** When the policy decides, if a violation waits for an operator. */
  deadline: number | undefined
  readonly displaced: string[] = []
  #count = 0

  limit({ limit }: Declared): number {
    return Math.max(0, (this.set ?? limit) + this.adjusted)
  }

  excess(by: Declared): number {
    const margin = this.settled ? 0 : by.overbook
    return Math.max(0, this.seats.length - this.limit(by) - margin)
  }

  book(guest: string, priority: number, by: Declared, now: number): boolean {
    if (by.mode === 'strict' && this.seats.length + 1 > this.limit(by) + (this.settled ? 0 : by.overbook))
      return false
    this.seats.push({ guest, priority, n: this.#count++, confirmed: false })
    if (by.mode === 'loose') this.review(by, now)
    return true
  }

  review(by: Declared, now: number): void {
    if (this.excess(by) === 0) this.deadline = undefined
    else if (by.review === 'auto') this.decide(by)
    else this.deadline ??= now + by.deadlineMs
  }

  decide(by: Declared): void {
    this.deadline = undefined
    const rank = ({ confirmed, priority, n }: Seat) => [
      confirmed ? 1 : 0,
      by.victims === 'lowest-priority' ? priority : 0,
      by.victims === 'oldest' ? n : -n,
    ]
    const inOrder = this.seats.toSorted((a, b) => {
      const [x, y] = [rank(a), rank(b)]
      return x.map((each, i) => each - y[i]!).find((less) => less !== 0) ?? 0
    })
    const gone = inOrder.slice(0, this.excess(by))
    this.displaced.push(...gone.map(({ guest }) => guest))
    this.seats = this.seats.filter((each) => !gone.includes(each))
  }
}

async function live([first, partitions, checkpointRows, moments, seed]: World): Promise<void> {
  counts.worlds++
  const random = randomFrom(seed)
  const clock = new HandClock()
  const storage = new CrashingStorage({ partitions, clock, id: '0'.repeat(32), random })
  const alarms: string[] = []
  let by = first
  let engine = await open()
  async function open(isBare = false) {
    return createEngine({
      app: await crowd(by),
      data: storage.open(isBare),
      clock,
      checkpointRows,
      onCodeChange: 'continue',
      report: ({ level, code, message }) => level === 'alarm' && alarms.push(`${code}: ${message}`),
    })
  }
  const crash = async () => {
    counts.crashes++
    for (let turns = Math.floor(random() * 12); turns > 0; turns--) await new Promise(setImmediate)
    storage.crash()
    engine = await open()
  }
  let sent = 0
  let crashesNext = false
  const send = async (type: string, input: object): Promise<Reply> => {
    const id = `r${sent++}`
    const submitted = () => engine.submit(type as never, input as never, { requestId: id })
    if (crashesNext) {
      crashesNext = false
      submitted().catch((error) => assert.ok(error instanceof HenceError, String(error)))
      await crash()
    }
    const reply = await submitted()
    await engine.idle()
    return reply as Reply
  }

  const model = new Map(shows.map((name) => [name, new Show()]))
  const states = new Map<string, string>()
  const all = [...model.values()]
  const showOf = (n: number) => model.get(shows[n]!)!
  for (const each of moments) {
    if (each === 'crash') {
      crashesNext = true
      continue
    }
    if ('pass' in each) {
      clock.pass(each.pass)
      await new Promise(setImmediate)
      await engine.idle()
    }
    const now = clock.now()
    for (const one of all) if (one.deadline !== undefined && one.deadline <= now) one.decide(by)
    if ('book' in each) {
      const guest = `g${sent}`
      const name = shows[each.book]!
      const { status } = await send('book', { guest, show: name, priority: each.priority })
      const isBooked = showOf(each.book).book(guest, each.priority, by, now)
      assert.equal(status, isBooked ? 'accepted' : 'rejected', `the verdict on ${guest}`)
      if (isBooked) states.set(guest, 'booked')
    } else if ('change' in each) {
      const { change, ...limit } = each
      await send('limit', { show: shows[change]!, ...limit })
      const one = showOf(change)
      if (limit.limit !== undefined) Object.assign(one, { set: limit.limit, adjusted: 0 })
      else one.adjusted += Math.max(0, one.limit(by) + limit.by!) - one.limit(by)
      one.review(by, now)
    } else if ('end' in each) {
      const held = all.flatMap((one) => one.seats.map((seat) => [one, seat] as const))
      if (held.length === 0) continue
      const [one, seat] = held[each.nth % held.length]!
      await send(each.end, { guest: seat.guest })
      if (each.end === 'confirm') seat.confirmed = true
      else {
        one.seats = one.seats.filter((other) => other !== seat)
        one.review(by, now)
      }
    } else if ('settle' in each) {
      await send('settle', { show: shows[each.settle]! })
      const one = showOf(each.settle)
      for (const { guest, confirmed } of one.seats) if (!confirmed) states.set(guest, 'gone')
      one.seats = one.seats.filter(({ confirmed }) => confirmed)
      one.settled = true
      one.review(by, now)
    } else if ('declare' in each) {
      counts.declared++
      await engine.close()
      by = each.declare
      const opening = open()
      if (each.crashes) {
        opening.catch(() => {})
        await crash()
      } else engine = await opening
      await engine.idle()
      for (const one of all) one.review(by, now)
    }
    for (const one of all) for (const guest of one.displaced.splice(0)) states.set(guest, 'sorry')
    await agree(`after ${JSON.stringify(each)}`)
  }
  const digest = await engine.digest()
  storage.crash()
  engine = await open(true)
  await engine.idle()
  assert.equal(await engine.digest(), digest, 'derived again, the rows are others')
  await agree('derived again')
  assert.deepEqual(alarms, [])
  await engine.close()

  async function agree(when: string): Promise<void> {
    const rows = (await engine.scan('guests')).map(({ key, value }) => [key[0], value.state])
    assert.deepEqual(
      rows,
      [...states].sort(([a], [b]) => (a < b ? -1 : 1)),
      when,
    )
    for (const [name, one] of model) {
      const usage = { limit: one.limit(by), claimed: one.seats.length, excess: one.excess(by) }
      assert.deepEqual(await engine.violations.usage('seats', name), usage, `${name} ${when}`)
    }
    const open = (await engine.violations.list({ state: 'open' })).map(({ key, deadline }) => [key, deadline])
    const waiting = [...model].flatMap(([name, { deadline }]) =>
      deadline === undefined ? [] : [[name, deadline]],
    )
    assert.deepEqual(open.sort(), waiting.sort(), `open violations ${when}`)
  }
}

const counts = { worlds: 0, declared: 0, crashes: 0 }

replayKept('declarations', live)

const worlds = fc.asyncProperty<World>(
  declared,
  fc.constantFrom(1, 2, 8),
  fc.constantFrom(1, 9, 1_000),
  fc.array(moment, { minLength: 10, maxLength: 60 }),
  fc.nat(),
  (...world) => live(world),
)

test(
  crashAt(['any turn of the event loop', 'code change'], `claims follow the declaration, ${runs} worlds`),
  async (t) => {
    await checkProperty('declarations', worlds, runs)
    t.diagnostic(JSON.stringify(counts))
  },
)

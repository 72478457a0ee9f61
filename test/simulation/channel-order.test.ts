import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type App, type AppBundle, createEngine, type Engine } from 'hence'
import { memoryStorage } from 'hence/testing'
import type * as made from '../apps/relays.ts'
import type { Sending } from '../apps/relays.ts'
import { appsOf } from '../apps.ts'
import { checkProperty, replayKept, runsOf } from '../kept-failures.ts'
import { randomFrom } from '../random.ts'
import { diariesOf } from './channel-model.ts'

// Random messages that old and new code send in different orders. In the generation of the new code each
// place gets what each other place sent to it, all of it and in the order in which it was sent; a plain walk
// over the requests says what that is. The order of everything that comes to a place is that of a plain
// model. The result does not depend on how closely the generation follows, and the same code derives the
// same.

const { relays } = appsOf<typeof made>(import.meta.resolve('../apps/relays.ts'))
const { runs } = runsOf(60)

replayKept('channel-order', live)

const places = ['a', 'b', 'c', 'd', 'e', 'f']
const place = fc.constantFrom(...places)
const rank = fc.option(fc.nat(3), { freq: 3 })
/** Texts are given later, so that each is there once. */
type Draft = Omit<Sending, 'text' | 'next'> & { readonly next: readonly Draft[] }
const draftsOf = (depth: number): fc.Arbitrary<readonly Draft[]> =>
  depth === 0
    ? fc.constant([])
    : fc.array(fc.record({ to: place, ranks: fc.tuple(rank, rank), next: draftsOf(depth - 1) }), {
        maxLength: depth,
      })
const drafts = draftsOf(3)
const moment = fc.record({
  froms: fc.oneof({ weight: 4, arbitrary: place.map((at) => [at, at] as const) }, fc.tuple(place, place)),
  all: drafts,
  passMs: fc.constantFrom(0, 0, 0, 1, 2),
  waits: fc.constantFrom(0, 0, 1, 3),
  pauses: fc.nat(7).map((n) => n === 0),
})

type World = [
  partitions: number,
  moments: readonly {
    readonly froms: readonly [string, string]
    readonly all: readonly Draft[]
    readonly passMs: number
    readonly waits: number
    /** Whether the candidate, if there is one, is paused and resumed: then it starts from what it saved. */
    readonly pauses?: boolean
  }[],
  startsAt: number,
  seed: number,
]
const worlds = fc.asyncProperty<World>(
  fc.constantFrom(2, 3, 8),
  fc.array(moment, { minLength: 1, maxLength: 25 }),
  fc.nat(25),
  fc.nat(),
  (...world) => live(world),
)

/** Gives every message a text of its own. */
function named(all: readonly Draft[], before: string): Sending[] {
  return all.map((draft, i) => ({
    ...draft,
    text: `${before}.${i}`,
    next: named(draft.next, `${before}.${i}`),
  }))
}

/** By sender and receiver: the texts that some version sends. */
function expected(version: 0 | 1, from: string, all: readonly Sending[], into: Map<string, string[]>): void {
  for (const { to, text, ranks, next } of all) {
    if (ranks[version] === null) continue
    const pair = `${from} ${to}`
    into.set(pair, [...(into.get(pair) ?? []), text])
    expected(version, to, next, into)
  }
}

async function rowsOf(engine: Engine<App>): Promise<{ arrivals: Map<string, string[]>; digest: string }> {
  const arrivals = new Map<string, string[]>()
  for (const { key, value } of await engine.scan('arrivals' as never, {})) {
    const [to, from] = key as unknown as [string, string]
    arrivals.set(`${from} ${to}`, (value as { texts: string[] }).texts)
  }
  return { arrivals, digest: await engine.digest() }
}

function assertInOrder(version: 0 | 1, requests: readonly Request[], arrivals: Map<string, string[]>): void {
  const all = new Map<string, string[]>()
  for (const { froms, all: sendings } of requests) expected(version, froms[version], sendings, all)
  for (const [pair, texts] of arrivals) {
    const numbers = texts.map((text) => Number(text.split(' ')[0]))
    assert.deepEqual(numbers, [...texts.keys()], `${pair}: messages overtook each other`)
  }
  const got = [...arrivals].map(([pair, texts]) => [pair, texts.map((text) => text.split(' ')[1]!).sort()])
  const sent = [...all].map(([pair, texts]) => [pair, texts.sort()])
  assert.deepEqual(got.sort(), sent.sort(), 'not everything that was sent has arrived')
}

interface Request {
  readonly froms: readonly [string, string]
  readonly all: readonly Sending[]
}

async function live([partitions, moments, startsAt, seed]: World): Promise<void> {
  const random = randomFrom(seed)
  let now = 1_790_000_000_000
  const clock = { now: () => now, alarm: () => () => {}, elapsed: () => now }
  const data = memoryStorage({ partitions, clock })
  const [before, after] = (await Promise.all([relays(0), relays(1)])) as unknown as AppBundle[]
  const open = (app: AppBundle, given = data) =>
    createEngine({ app, data: given, clock, random, report: () => {} }) as Promise<Engine<App>>
  const engine = await open(before!)
  const requests: Request[] = []
  let started: Promise<unknown> | undefined
  for (const [n, { froms, all, passMs, waits, pauses }] of moments.entries()) {
    if (n === startsAt) started = engine.reprocessing.start({ app: after! })
    const request = { froms, all: named(all, String(n)) }
    requests.push(request)
    void engine.submit('send' as never, request as never, { requestId: `r${n}` }).catch(() => {})
    for (let turns = 0; turns < waits; turns++) await new Promise(setImmediate)
    now += passMs
    if (!pauses || started === undefined) continue
    await started
    await engine.reprocessing.pause()
    await engine.reprocessing.resume()
  }
  await engine.idle()
  await (started ?? engine.reprocessing.start({ app: after! }))
  const { sha256: diff } = await engine.reprocessing.diff()
  const old = await rowsOf(engine)
  assertInOrder(0, requests, old.arrivals)
  await engine.reprocessing.promote({ diff }, { requestId: 'p' })
  const fresh = await rowsOf(engine)
  assertInOrder(1, requests, fresh.arrivals)
  const diaries = new Map<string, readonly string[]>()
  for (const { key, value } of await engine.scan('diary' as never, {}))
    diaries.set(key[0] as string, (value as { texts: string[] }).texts)
  const model = await diariesOf(data.log)
  assert.deepEqual([...diaries].sort(), [...model].sort(), 'the order is not that of the model')

  // The first code again, as a generation that is derived beside the promoted one.
  await engine.reprocessing.discard()
  await engine.reprocessing.start({ app: after! }, { again: true })
  assert.equal((await engine.reprocessing.diff()).differences, 0, 'the same code derives something else')
  await engine.close()

  const bare = await open(after!, { ...memoryStorage({ partitions, clock }), log: data.log })
  assert.equal(
    await bare.digest(),
    fresh.digest,
    'a generation that follows differs from one that comes later',
  )
  await bare.close()
}

test(`a channel keeps its order in a generation of other code, ${runs} worlds`, () =>
  checkProperty('channel-order', worlds, runs))

import type { Reply } from 'hence'
import { randomFrom } from '../random.ts'
import { changedApp, Dice, randomApp } from './apps.ts'
import { type Apply, compare, Mismatch, nothing, OtherOutcome, type Step } from './compare.ts'
import { versionOf } from './derive.ts'
import { EngineRun, endOf } from './engine-run.ts'
import { type Case, type Item, type Phase, randomCase, randomPhases } from './history.ts'
import type { Choose, Model } from './model.ts'
import { seenOfEngine } from './observe.ts'
import type { AppPlan, Place, TaskInput } from './plan.ts'
import {
  type Effect,
  identityOf,
  keyOf,
  type Message,
  type Outcome,
  type Recorded,
  type Root,
  type State,
} from './state.ts'

/** One engine, with many cases beside each other. */
export interface World {
  readonly partitions: number
  readonly plan: AppPlan
  readonly phases: readonly Phase[]
  readonly cases: readonly Case[]
}

/** Each derivation that does not end takes twice the limit, so few worlds have such. */
const poisons = ['spin', 'dive', 'dive', ...Array.from({ length: 9 }, () => undefined)] as const
const derivationMs = 250

const kinds = ['none', 'none', 'continue', 'promote'] as const

export function randomWorld(seed: number, cases: number): World {
  const dice = new Dice(randomFrom(seed))
  const poison = dice.pick(poisons)
  const plan = { ...randomApp(dice), ...(poison === 'spin' && { derivationMs }) }
  const { phases, bursts, mended } = randomPhases(dice, plan, changedApp, kinds)
  const poisonOf = (i: number) => (i === 0 || (i < 5 && poison === 'dive') ? poison : undefined)
  return {
    partitions: dice.pick([1, 2, 8]),
    plan,
    phases,
    cases: dice.times(cases, (i) => randomCase(dice, plan, String(i), bursts, poisonOf(i), mended)),
  }
}

/** Runs a world in the engine, then each case in the model. Throws a `Mismatch` where they differ. */
export async function runWorld(world: World): Promise<void> {
  const { cases } = world
  let { plan } = world
  const run = new EngineRun(world.partitions)
  const start = run.clock.now()
  await run.open(plan)
  const prefixes = cases.map(({ prefix }) => prefix)
  const trails = new Map<string, Step[]>(prefixes.map((prefix) => [prefix, []]))
  const outcomes = new Map<string, Outcome>()
  const sent = new Map<string, Item & { send: 'run' }>()
  try {
    for (const phase of world.phases) {
      let applies = new Map<string, Apply>()
      const forAll = (apply: Apply) => {
        applies = new Map(prefixes.map((prefix) => [prefix, apply]))
      }
      if (phase.phase === 'burst') {
        await run.pass(1)
        applies = await burst(run, { ...world, plan }, phase, sent, outcomes)
      } else if (phase.phase === 'pass') {
        await run.pass(phase.ms)
        forAll((model, choose, again) => {
          pass(model, phase.ms, choose, again)
          arrive(model, again)
          model.settle(choose)
          return []
        })
      } else if (phase.phase === 'answer') {
        // Other code may place events behind all records of the same time.
        await run.pass(1)
        await run.answer()
        forAll((model, choose, again) => {
          pass(model, 1, choose, again)
          const results =
            again?.filter(({ at }) => at === undefined) ?? [...model.state.effects.values()].flatMap(resultOf)
          for (const each of results) model.result(each)
          arrive(model, again)
          model.settle(choose)
          return results
        })
      } else {
        await run.close()
        if (phase.phase !== 'reopen') plan = phase.plan
        const how = { reopen: 'refuse', continue: 'continue', promote: 'reprocess' } as const
        if (phase.phase === 'reopen' || phase.crash === undefined) await run.open(plan, how[phase.phase])
        else await run.openTwice(plan, how[phase.phase], phase.crash)
        await run.rest()
        forAll(nothing)
      }
      const seen = await seenOfEngine(run.engine, plan, prefixes)
      for (const prefix of prefixes)
        trails.get(prefix)!.push({
          phase,
          apply: applies.get(prefix) ?? nothing,
          plan,
          seen: seen.get(prefix)!,
        })
    }
    const digest = await run.engine.digest()
    await run.close()
    await run.rebuild(plan)
    const again = await run.engine.digest()
    if (again !== digest) throw new Mismatch('', 'Derived again from the log, the state has another digest.')
  } finally {
    await run.close()
  }
  for (const [prefix, steps] of trails) compare(prefix, world.partitions, start, steps)
}

/** Moves the time. Results of the last moment are left to `arrive`. */
function pass(model: Model, ms: number, choose: Choose, again: readonly Recorded[] = []): void {
  const target = model.state.now + ms
  while (model.state.now < target) {
    const { now } = model.state
    const times = again.flatMap(({ at }) => (at !== undefined && at > now ? [at] : []))
    model.state.now = Math.min(target, model.nextDue ?? target, ...times)
    model.settle(choose, false)
    if (model.state.now === target) return
    arrive(model, again)
    model.settle(choose)
  }
}

/** Results that had come at once when the phase was derived by other code. */
function arrive(model: Model, again: readonly Recorded[] = []): void {
  for (const each of again) if (each.at === model.state.now) model.result(each)
}

const offsetOf = (token: string) => Number(token.slice(token.indexOf(':') + 1))

/** Sends one burst of every case to the engine. Returns by case how it comes into the model. */
async function burst(
  run: EngineRun,
  { cases, plan }: World,
  { n, crash }: Phase & { readonly phase: 'burst' },
  sent: Map<string, Item & { send: 'run' }>,
  outcomes: Map<string, Outcome>,
): Promise<Map<string, Apply>> {
  const now = run.clock.now()
  const open = await run.engine.violations.list({ state: 'open', limit: 1_000_000 })
  const effects = await effectsOf(run)
  const applies = new Map<string, Apply>()
  const sending = cases.map(({ prefix, bursts }) => {
    const records: { offset: number; make: (state: State) => Message }[] = []
    const replies: { root: Root; outcome: Outcome }[] = []
    const submit = async (root: Root, reply: Promise<Reply>, make: (state: State) => Message) => {
      const got = await reply
      const outcome = outcomeOf(got)
      replies.push({ root, outcome })
      const first = outcomes.get(identityOf(root))
      if (first && JSON.stringify(first) !== JSON.stringify(outcome))
        throw new Mismatch(prefix, `A retry of ${root.requestId} got another outcome.`)
      if (!first) records.push({ offset: offsetOf(got.token), make })
      outcomes.set(identityOf(root), outcome)
    }
    const send = () => {
      const waits: Promise<void>[] = []
      for (const item of bursts[n] ?? []) {
        if (item.send === 'run') {
          const root = { requestId: item.id, principal: item.by }
          sent.set(item.id, item)
          const type = item.s === 0 ? 'run-a' : 'run-b'
          waits.push(
            submit(root, run.engine.submit(type as never, item.input as never, root), () =>
              requestOf(item, root, now, plan, run),
            ),
          )
        } else if (item.send === 'again') {
          const first = sent.get(item.of)
          if (!first) continue
          const root = { requestId: first.id, principal: first.by }
          const type = first.s === 0 ? 'run-a' : 'run-b'
          const input = item.other
            ? { ...first.input, ops: [...first.input.ops, { do: 'who' }] }
            : first.input
          const reply = run.engine.submit(type as never, input as never, root)
          if (item.other)
            waits.push(
              reply.then(
                () => {
                  throw new Mismatch(prefix, `Other content under the id ${first.id} was taken.`)
                },
                (error) => {
                  if (error.code !== 'request-id-reused') throw error
                },
              ),
            )
          else waits.push(submit(root, reply, () => requestOf(first, root, now, plan, run)))
        } else if (item.send === 'redrive') {
          const { id, n, isDead, mayRepeat, isElsewhere } = item
          const found = effects(prefix).filter(({ state }) => (state === 'dead') === isDead)
          if (found.length === 0) continue
          const effect = found[n % found.length]!
          const key = isElsewhere ? `${prefix}.elsewhere` : effect.key
          const root = { requestId: id, principal: 'olga' }
          const input = { effect: effect.id, key, reason: 'why', ...(mayRepeat && { mayRepeat }) }
          waits.push(
            submit(root, run.redrive(input, root), (state) => ({
              kind: 'redrive',
              to: { s: 0, k: key },
              now,
              root,
              cause: id,
              of: { effect: redrivenBy(state, id, (effect.input as TaskInput).text), mayRepeat },
            })),
          )
        } else {
          const { c, at, action, id, units } = item
          const root = { requestId: id, principal: 'olga' }
          const scope = plan.constraints[c]!.s
          const found = open.find((each) => each.constraint === `c${c}` && each.key === at)
          const holder = [...sent.values()].find(
            (each) =>
              each.id.startsWith(`${prefix}.`) &&
              each.input.claims.some((want) => want.c === c && want.at === at),
          )
          const victims =
            action === 'choose' && holder ? [{ requestId: holder.id, principal: holder.by }] : undefined
          if (action === 'choose' && !victims) continue
          const decision = {
            violation: found?.id ?? 'none',
            key: at,
            action,
            reason: 'why',
            ...(action === 'raise-limit' && units !== undefined && { units }),
            ...(victims && { victims }),
          }
          waits.push(
            submit(root, run.engine.violations.resolve(decision, root), (state) => ({
              kind: 'resolve',
              to: { s: scope, k: at },
              now,
              root,
              cause: id,
              decision: {
                action,
                violation: decidedBy(state, id, { s: scope, k: at }, c),
                ...(action === 'raise-limit' && units !== undefined && { units }),
                ...(victims && { victims }),
              },
            })),
          )
        }
      }
      return waits
    }
    applies.set(prefix, (model, choose, again) => {
      pass(model, 1, choose, again)
      // The violation that a decision is about was looked up before the burst.
      const messages = records.sort((a, b) => a.offset - b.offset).map(({ make }) => make(model.state))
      for (const message of messages) model.request(message)
      arrive(model, again)
      model.settle(choose)
      if (again) return []
      for (const { root, outcome } of replies) {
        const expected = model.state.outcomes.get(identityOf(root))
        if (JSON.stringify(expected) !== JSON.stringify(outcome))
          throw new OtherOutcome(
            `${root.requestId}: ${JSON.stringify(outcome)} is not ${JSON.stringify(expected)}`,
          )
      }
      return []
    })
    return send
  })
  const isPoison = (id: string) => sent.get(id)?.isPoison === true
  const sendAll = () => Promise.all(sending.flatMap((send) => send()))
  if (crash === undefined) await sendAll()
  else await run.twice(plan, crash, sendAll, isPoison)
  await run.rest()
  return applies
}

/** The violation that was open when a decision was sent, by its id, also where other code has none. */
function decidedBy({ keys, decided }: State, by: string, place: Place, c: number): string {
  const open = keys.get(keyOf(place))?.violations.find((each) => each.c === c && each.state === 'open')
  const id = decided.get(by) ?? open?.id ?? 'none'
  decided.set(by, id)
  return id
}

/** The effect that is sent again, by its id, also where other code has none. */
function redrivenBy({ effects, decided }: State, by: string, text: string): string {
  const id = decided.get(by) ?? [...effects.values()].find(({ input }) => input.text === text)?.id ?? 'none'
  decided.set(by, id)
  return id
}

/** The effects of each case that no other one has the text of. */
async function effectsOf({ engine }: EngineRun) {
  const states = ['pending', 'done', 'dead'] as const
  const listed = await Promise.all(states.map((state) => engine.effects.list({ state, limit: 1_000_000 })))
  const all = listed.flat()
  return (prefix: string) => {
    const mine = all.filter(({ key }) => key.startsWith(`${prefix}.`))
    const textOf = (each: { input: unknown }) => (each.input as TaskInput).text
    return mine.filter((each) => mine.every((other) => other === each || textOf(other) !== textOf(each)))
  }
}

function requestOf(
  item: Item & { send: 'run' },
  root: Root,
  now: number,
  plan: AppPlan,
  { ruledOut }: EngineRun,
): Message {
  return {
    kind: 'request',
    version: versionOf(plan),
    to: { s: item.s, k: item.input.k },
    now,
    root,
    cause: identityOf(root),
    input: item.input,
    ...(ruledOut.has(item.id) && { ruledOut: plan }),
  }
}

function outcomeOf(reply: Reply): Outcome {
  if (reply.status === 'accepted') return { status: 'accepted', value: reply.value }
  if (reply.status === 'failed') return { status: 'failed', code: reply.code }
  const { reason, details } = reply
  return { status: 'rejected', reason, ...(details !== undefined && { details }) }
}

/** The result of an effect that waits, unless nobody answers it. */
function resultOf({ id, input, place, root, state, redriven: n = 0 }: Effect): readonly Recorded[] {
  if (state !== 'pending' || /[?*]/.test(input.text)) return []
  return [{ id, n, input, place, root, end: endOf(input.text, n > 0) }]
}

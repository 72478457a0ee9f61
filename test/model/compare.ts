import { randomFrom } from '../random.ts'
import type { Phase } from './history.ts'
import { type Choose, Model, newState } from './model.ts'
import { type Seen, seenOfModel } from './observe.ts'
import type { AppPlan } from './plan.ts'
import { promote } from './promote.ts'
import type { Recorded, State } from './state.ts'

/**
 * Brings one phase into a model, in an order that is chosen where it is open. Returns the results of effects
 * that the log got.
 * @param again if other code derives the phase again: those results
 */
export type Apply = (model: Model, choose: Choose, again?: readonly Recorded[]) => readonly Recorded[]

export const nothing: Apply = () => []

/** One phase of a case, and all that was seen of the engine after it. */
export interface Step {
  readonly phase: Phase
  readonly apply: Apply
  readonly plan: AppPlan
  readonly seen: Seen
}

export class Mismatch extends Error {
  readonly prefix: string

  constructor(prefix: string, message: string) {
    super(message)
    this.prefix = prefix
  }
}

/** A reply of the engine was another one. */
export class OtherOutcome extends Error {}

/** How often the whole history is tried in other orders, and each phase of it. */
const walksMax = 60
const turnsMax = 200
/** How many messages all that takes at most. */
const messagesMax = 400_000

/** Looks for an order of the model that shows after every phase what the engine showed. */
export function compare(prefix: string, partitions: number, start: number, steps: readonly Step[]): void {
  const random = randomFrom(1)
  let furthest = { step: -1, text: '' }
  let messages = 0
  for (let walk = 0; walk < walksMax && messages < messagesMax; walk++) {
    let state = newState(partitions, start)
    const results: (readonly Recorded[])[] = []
    let i = 0
    for (; i < steps.length; i++) {
      const step = steps[i]!
      let found: State | undefined
      let trail: number[] = []
      for (let turn = 0; turn < turnsMax && messages < messagesMax && !found; turn++) {
        // Most of what was chosen last is kept.
        const kept = trail.slice(0, Math.floor(trail.length * (1 - random() ** 3)))
        const choices: number[] = []
        const choose: Choose = (n) => {
          const chosen = walk === 0 && turn === 0 ? 0 : Math.floor(random() * n)
          choices.push(kept[choices.length] ?? chosen)
          return choices.at(-1)!
        }
        const [tried, taken] = attempt(steps, i, state, results, choose, partitions, start)
        messages += taken
        if (typeof tried !== 'string') found = tried
        else if (i > furthest.step)
          furthest = { step: i, text: `after ${JSON.stringify(step.phase)}:\n${tried}` }
        if (choices.length === 0) break
        trail = choices
      }
      if (!found) break
      state = found
    }
    if (i === steps.length) return
  }
  const cost = `in ${messages} messages of the model`
  throw new Mismatch(
    prefix,
    `case ${prefix}, no order found ${cost}, step ${furthest.step}, ${furthest.text}`,
  )
}

/** One phase in one order: the state after it, or how the engine differs; and how many messages it took. */
function attempt(
  steps: readonly Step[],
  i: number,
  before: State,
  results: (readonly Recorded[])[],
  choose: Choose,
  partitions: number,
  start: number,
): [found: State | string, messages: number] {
  const { apply, plan, seen, phase } = steps[i]!
  const isPromotion = phase.phase === 'promote'
  const state = isPromotion
    ? { ...newState(partitions, start), records: structuredClone(before.records), decided: before.decided }
    : structuredClone(before)
  const model = new Model(plan, state)
  const isPromoted = steps.slice(0, i + 1).some((step) => step.phase.phase === 'promote')
  const form = isPromoted ? timeless : (text: string) => text
  const journals = new Map(
    seen
      .filter((each) => each.startsWith('journal-'))
      .map((each) => {
        const [table, key, lines] = each.split(/ (\S+) (.*)/s) as [string, string, string]
        return [`${table} ${key}`, JSON.parse(lines) as string[]]
      }),
  )
  // Lines are only added, so an order that has others leads nowhere.
  model.watch = ({ place, lines }) => {
    const name = `journal-${'ab'[place.s]} ${place.k}`
    const all = journals.get(name) ?? []
    for (const [n, line] of lines.entries())
      if (all[n] === undefined || form(all[n]) !== form(line))
        throw new OtherOutcome(`${name} has ${JSON.stringify(lines)}, engine ${JSON.stringify(all)}`)
  }
  try {
    if (isPromotion) {
      model.isLive = false
      steps.slice(0, i).forEach((step, n) => void step.apply(model, choose, results[n]))
      promote(before, model)
      model.begin()
      model.settle(choose)
    } else results[i] = [...apply(model, choose), ...model.recorded]
  } catch (error) {
    if (!(error instanceof OtherOutcome)) throw error
    return [error.message, model.taken]
  }
  const [expected, actual] = [seenOfModel(model), seen].map((all) => all.map(form))
  return [difference(expected!, actual!) || state, model.taken]
}

/**
 * Other code may set a timer for a time at which the log has no tick. It goes off at the next record of its
 * partition, and the model does not know the records of other cases.
 */
function timeless(text: string): string {
  return text.replace(/\b\d{13}\b|now \d+/g, '~')
}

function difference(expected: Seen, actual: Seen): string {
  const [more, less] = [
    actual.filter((each) => !expected.includes(each)),
    expected.filter((each) => !actual.includes(each)),
  ]
  if (more.length + less.length === 0 && expected.length === actual.length) return ''
  return [...less.map((each) => `  model  ${each}`), ...more.map((each) => `  engine ${each}`)].join('\n')
}

import type { AppPlan, ConstraintPlan, Twist } from './plan.ts'

/** Draws from a seed. */
export class Dice {
  readonly #random: () => number

  constructor(random: () => number) {
    this.#random = random
  }

  /** A whole number from `from` to `to`, both included. */
  int(from: number, to: number): number {
    return from + Math.floor(this.#random() * (to - from + 1))
  }

  chance(share: number): boolean {
    return this.#random() < share
  }

  pick<T>(all: readonly T[]): T {
    return all[this.int(0, all.length - 1)]!
  }

  times<T>(n: number, make: (i: number) => T): T[] {
    return Array.from({ length: n }, (_, i) => make(i))
  }
}

function randomConstraint(dice: Dice): ConstraintPlan {
  const kind = dice.chance(0.25) ? 'unique' : 'capacity'
  const isUnique = kind === 'unique'
  return {
    s: dice.chance(0.75) ? 0 : 1,
    kind,
    mode: dice.pick(['strict', 'loose']),
    limit: isUnique ? 1 : dice.int(0, 4),
    overbook: isUnique ? 0 : dice.pick([0, 0, 0, 1, { percent: 50 }]),
    victims: dice.pick(['newest', 'oldest', 'lowest-priority']),
    review: dice.chance(0.35) ? 'human' : 'auto',
    deadlineMs: 1_000,
    ...(dice.chance(0.5) && { waitingList: randomList(dice) }),
  }
}

function randomList(dice: Dice): NonNullable<ConstraintPlan['waitingList']> {
  const confirmMs = dice.pick([undefined, 50, 200])
  return { victims: dice.chance(0.5), ...(confirmMs && { confirmMs }) }
}

export function randomApp(dice: Dice): AppPlan {
  return {
    constraints: dice.times(dice.int(1, 3), () => randomConstraint(dice)),
    twist: {},
    corrects: dice.chance(0.8),
  }
}

/** Another version of an app. */
export function changedApp(dice: Dice, { constraints: before, ...same }: AppPlan): AppPlan {
  // Deriving again takes other modes, for example results that come before what asks for them.
  const other = (each: ConstraintPlan): ConstraintPlan => ({
    ...each,
    mode: each.mode === 'loose' ? 'strict' : 'loose',
  })
  const listed = ({ waitingList, ...each }: ConstraintPlan): ConstraintPlan =>
    waitingList ? each : { ...each, waitingList: randomList(dice) }
  const constraints = before
    .map((each) => (dice.chance(0.3) ? other(each) : each))
    .map((each) => (dice.chance(0.2) ? listed(each) : each))
  const tag = () => dice.int(0, 2)
  const all: Twist[] = [
    { suffix: "'" },
    { mute: tag() },
    { echo: tag() },
    { reword: tag() },
    { more: tag() },
    { silent: tag() },
    { accepts: true },
    { mends: true },
    { ends: true },
    { moves: dice.pick(['x', 'u']) },
    { upcasts: true },
  ]
  const twist = Object.assign({}, ...dice.times(dice.int(1, 3), () => dice.pick(all)))
  return { ...same, constraints, twist }
}

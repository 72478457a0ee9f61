import type { Dice } from './apps.ts'
import type { AppPlan, Op, Place, Poison, RunInput, Want } from './plan.ts'

/** One thing that a client or an operator sends. */
export type Item =
  | {
      readonly send: 'run'
      readonly s: 0 | 1
      readonly input: RunInput
      readonly id: string
      readonly by: string
      /** An operator rules it out, if the process dies before it is decided. */
      readonly isPoison?: true
    }
  /** An earlier request again, under the same id; `other`: with other content. */
  | { readonly send: 'again'; readonly of: string; readonly other: boolean }
  /** Decides the open violation of a constraint at a key. */
  | {
      readonly send: 'decide'
      readonly id: string
      readonly c: number
      readonly at: string
      readonly action: 'compensate' | 'choose' | 'waive' | 'raise-limit'
      readonly units?: number
    }
  /** Delivers a dead effect again, or one that is not dead: the `n`th, of as many as there are. */
  | {
      readonly send: 'redrive'
      readonly id: string
      readonly n: number
      readonly isDead: boolean
      readonly mayRepeat: boolean
      /** The key of the effect is given wrongly. */
      readonly isElsewhere: boolean
    }

/** The same for all cases of a world: they share the engine, and no keys. */
export type Phase =
  /** `crash`: the process dies at some append. */
  | { readonly phase: 'burst'; readonly n: number; readonly crash?: number }
  | { readonly phase: 'pass'; readonly ms: number }
  | { readonly phase: 'answer' }
  | { readonly phase: 'reopen' }
  | { readonly phase: 'continue' | 'promote'; readonly plan: AppPlan; readonly crash?: number }

export interface Case {
  /** All its keys begin with it. */
  readonly prefix: string
  readonly bursts: readonly (readonly Item[])[]
}

/** The keys of a case. `z` is a key of both scopes. */
export function placesOf(prefix: string): readonly Place[] {
  const of = (s: 0 | 1, ...names: string[]) => names.map((name) => ({ s, k: `${prefix}.${name}` }))
  return [...of(0, 'x', 'y', 'z'), ...of(1, 'u', 'v', 'z')]
}

class Writer {
  readonly #dice: Dice
  readonly #plan: AppPlan
  readonly #places: readonly Place[]
  #texts = 0
  /** Some derivations come upon it. */
  poison: Poison['do'] | undefined
  poisonTags = 1

  constructor(dice: Dice, plan: AppPlan, places: readonly Place[]) {
    this.#dice = dice
    this.#plan = plan
    this.#places = places
  }

  place(): Place {
    return this.#dice.pick(this.#places)
  }

  text(): string {
    return `t${this.#texts++}`
  }

  /** Operations for a key of scope `s`. */
  ops(s: 0 | 1, depth: number, judges: boolean): Op[] {
    return this.#dice.times(this.#dice.int(depth === 0 ? 1 : 0, 3), () => this.#op(s, depth, judges))
  }

  #op(s: 0 | 1, depth: number, judges: boolean): Op {
    const dice = this.#dice
    const c = dice.int(0, this.#plan.constraints.length - 1)
    const isMine = this.#plan.constraints[c]!.s === s
    const deeper = (scope: 0 | 1) => (depth >= 3 ? [] : this.ops(scope, depth + 1, true))
    const sub = dice.pick(['p', 'q'])
    const name = () => (dice.chance(0.3) ? { name: this.text() } : {})
    if (this.poison && dice.chance(0.08)) return { do: this.poison, tag: dice.int(0, this.poisonTags - 1) }
    const roll = dice.int(0, 99)
    if (roll < 18) return { do: 'note', text: this.text() }
    if (roll < 24) return { do: 'add', by: dice.int(1, 2) }
    if (roll < 27) return { do: 'who' }
    if (roll < 30) return { do: 'now' }
    if (roll < 33) return { do: 'put', sub, n: dice.int(0, 9) }
    if (roll < 35) return { do: 'del', sub }
    if (roll < 36) return { do: 'list' }
    if (roll < 52) {
      const to = this.place()
      return { do: 'emit', to, tag: dice.int(0, 2), ...name(), ops: deeper(to.s) }
    }
    if (roll < 57) return { do: 'set', name: sub, in: dice.int(1, 30) * 10, ops: deeper(s) }
    if (roll < 59) return { do: 'cancel', name: sub }
    if (roll < 66) {
      const text = this.text() + dice.pick(['', '', '!', '!!', '?', '*'])
      return { do: 'ask', text, tag: dice.int(0, 2), ...name(), done: deeper(s), dead: deeper(s) }
    }
    const at = dice.chance(0.2) ? { at: this.place().k } : {}
    if (roll < 73) return { do: 'release', c, ...at, ...(dice.chance(0.3) && { units: dice.int(1, 2) }) }
    if (roll < 77) return { do: 'confirm', c, ...at }
    if (roll < 78) return { do: 'waits', c, ...at }
    if (roll < 80) return { do: 'throw' }
    if (roll < 82 && depth === 0) return { do: 'reject', reason: dice.pick(['no', 'never']) }
    if (roll < 85) return { do: 'if', min: dice.int(1, 3), ops: deeper(s) }
    if ((!isMine || !judges) && !dice.chance(0.03)) return { do: 'note', text: this.text() }
    if (roll < 89) return { do: 'usage', c }
    if (roll < 92) return { do: 'limit', c, to: dice.int(0, 4) }
    if (roll < 96) return { do: 'adjust', c, by: dice.int(-2, 2) }
    return { do: 'settle', c }
  }

  claims(): Want[] {
    const dice = this.#dice
    if (dice.chance(0.45)) return []
    const all = dice.times(dice.int(1, 3), (): Want => {
      const c = dice.int(0, this.#plan.constraints.length - 1)
      const { s, kind } = this.#plan.constraints[c]!
      const at = dice.pick(this.#places.filter((each) => each.s === s).slice(0, 2)).k
      const units = kind === 'unique' ? 1 : dice.int(1, 2)
      const how = dice.chance(0.25) ? { exchange: true } : dice.chance(0.6) ? { wait: true } : {}
      return { c, at, units, priority: dice.int(0, 2), ...how }
    })
    // Which priority claims on one key have together, and how many units of a unique one, is not documented.
    return all.filter((each, i) => all.findIndex(({ c, at }) => c === each.c && at === each.at) === i)
  }

  run(id: string): Item {
    const dice = this.#dice
    const { s, k } = this.place()
    const claims = this.claims()
    const isStrict = claims.some(({ c }) => this.#plan.constraints[c]!.mode === 'strict')
    const input = {
      k,
      claims,
      ops: this.ops(s, 0, !isStrict),
      sorry: this.ops(s, 1, true),
      queued: this.ops(s, 2, true),
      served: this.ops(s, 2, true),
    }
    const poison = dice.chance(0.3) && ({ isPoison: true } as const)
    return { send: 'run', s, input, id, by: dice.pick(['ann', 'bob', '']), ...poison }
  }
}

/**
 * @param poison some derivations come upon it
 * @param mended the first burst from which on all of it may come: what comes before, other code must get past
 */
export function randomCase(
  dice: Dice,
  plan: AppPlan,
  prefix: string,
  bursts: number,
  poison: Poison['do'] | undefined,
  mended: number,
): Case {
  const places = placesOf(prefix)
  const writer = new Writer(dice, plan, places)
  writer.poison = poison
  const sent: string[] = []
  let n = 0
  const item = (): Item => {
    const id = `${prefix}.${n++}`
    if (sent.length > 0 && dice.chance(0.12))
      return { send: 'again', of: dice.pick(sent), other: dice.chance(0.3) }
    if (dice.chance(0.1)) {
      const c = dice.int(0, plan.constraints.length - 1)
      const at = dice.pick(places.filter((each) => each.s === plan.constraints[c]!.s)).k
      const action = dice.pick(['compensate', 'choose', 'waive', 'raise-limit'] as const)
      return { send: 'decide', id, c, at, action, ...(dice.chance(0.3) && { units: dice.int(1, 2) }) }
    }
    if (sent.length > 1 && dice.chance(0.12))
      return {
        send: 'redrive',
        id,
        n: dice.int(0, 99),
        isDead: dice.chance(0.85),
        mayRepeat: dice.chance(0.4),
        isElsewhere: dice.chance(0.05),
      }
    sent.push(id)
    return writer.run(id)
  }
  const burst = (n: number) => {
    writer.poisonTags = n < mended ? 1 : 2
    return dice.times(dice.int(1, 3), item)
  }
  return { prefix, bursts: dice.times(bursts, burst) }
}

/** The phases of a world, and how many bursts they have. */
export function randomPhases(
  dice: Dice,
  plan: AppPlan,
  change: (dice: Dice, plan: AppPlan) => AppPlan,
  kinds: readonly ('none' | 'continue' | 'promote')[],
) {
  const phases: Phase[] = []
  let bursts = 0
  let code = plan
  let mended = 0
  const changes = dice.pick(kinds)
  for (let i = 0, length = dice.int(6, 10); i < length; i++) {
    phases.push({ phase: 'burst', n: bursts++, ...(dice.chance(0.1) && { crash: dice.int(1, 40) }) })
    if (dice.chance(0.35)) phases.push({ phase: 'pass', ms: dice.int(1, 40) * 10 })
    if (dice.chance(0.35)) phases.push({ phase: 'answer' })
    // Longer than the receivers of effects remember ids.
    if (changes !== 'promote' && dice.chance(0.03)) phases.push({ phase: 'pass', ms: 25 * 3_600_000 })
    if (dice.chance(0.1)) phases.push({ phase: 'reopen' })
    if (changes !== 'none' && i === Math.floor(length / 2)) {
      code = change(dice, code)
      // Nothing rules on the past for code that derives it again.
      if (changes === 'promote') {
        code = { ...code, twist: { ...code.twist, ends: true } }
        mended = bursts
      }
      phases.push({ phase: changes, plan: code, ...(dice.chance(0.3) && { crash: dice.int(1, 12) }) })
    }
  }
  phases.push({ phase: 'answer' }, { phase: 'pass', ms: 2_000 })
  return { phases, bursts, mended }
}

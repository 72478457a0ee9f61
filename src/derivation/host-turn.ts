import type { Constraint } from '../app/index.ts'
import type { Messages, Sending, Turn } from '../constraint/turn.ts'
import { changeError, type HenceError } from '../failure.ts'
import type { TableState } from '../state/table.ts'
import { type Chain, chainDepthMax, type Emission, Origin } from './chain.ts'
import { constraintNamed, type DerivationContext } from './context.ts'
import { eventId, namedUuid } from './seed.ts'

/** The facts about a record that a derivation can read. */
export interface Facts {
  readonly chain: Chain
  /** Log time of the record, in milliseconds since 1970. */
  readonly time: number
  readonly partition: number
  /** Set for a request that waited for strict claims: the judge of its key went on meanwhile. */
  readonly waited?: true
}

/** A turn of Hence's own code. Its messages to other keys travel like events of the app. */
export class HostTurn implements Turn {
  readonly key: string
  readonly now: number
  readonly identity: string
  #undecided: Set<string> | undefined
  readonly #context: DerivationContext
  readonly #facts: Facts
  readonly origin: Origin
  readonly emissions: Emission[]

  constructor(
    context: DerivationContext,
    key: string,
    facts: Facts,
    origin: Origin,
    emissions: Emission[] = [],
  ) {
    this.key = key
    this.now = facts.time
    this.identity = facts.chain.identity
    this.#context = context
    this.#facts = facts
    this.origin = origin
    this.emissions = emissions
  }

  get forgottenBefore(): number {
    return this.#context.forgottenBefore()
  }

  get undecided(): Set<string> {
    this.#undecided ??= new Set()
    return this.#undecided
  }

  constraint(name: string): Constraint {
    return constraintNamed(this.#context, name)
  }

  rows(table: Parameters<Turn['rows']>[0]): TableState {
    return this.#context.constraints[table]
  }

  send<T extends keyof Messages>(
    type: T,
    key: string,
    data: Messages[T],
    { isLater, of }: Sending = {},
  ): void {
    const parent = this.origin
    // Named by its subject, since other code may send more or fewer messages before it.
    const { constraint, key: judged, identity, violation }: Subject = data
    const name = parent.named(() => `${type} ${key} ${constraint} ${judged} ${identity} ${violation}`)
    // Without the limit of `childOf`, which is for endless chains of the app. If it cut off a system message,
    // the request that waits for the answer would wait for ever. Such chains end, as no limit changes there.
    const origin = new Origin(parent.depth + 1, () => eventId(of ?? parent.seed, type, name()))
    this.emissions.push({ type, version: 1, key, data, origin, chain: this.#facts.chain, isLater })
  }

  schedule<T extends keyof Messages>(
    type: T,
    name: string,
    at: number | null,
    data: Messages[T],
    of = this.origin.seed,
  ): void {
    const { chain, partition } = this.#facts
    const { timers } = this.#context
    const timer = { key: this.key, scope: 'hence', event: type, name }
    const id = hexOf(eventId(of, `timer ${type}`, name))
    // Time ends a chain, as in `tx.schedule`.
    const depth = at !== null && at > this.now ? 1 : this.origin.depth + 1
    if (at === null) timers.cancel(timer)
    else timers.set(timer, { ...chain, at, partition, data: JSON.stringify(data), id, depth })
  }

  id(name: string): string {
    return namedUuid(this.origin.seed, 'id', this.origin.named(() => name)())
  }
}

/** The parts of a system message that say what it is about. */
interface Subject {
  readonly constraint?: string
  readonly key?: string
  readonly identity?: string
  readonly violation?: string | null
}

/** The origin of a message that a derivation emits. */
export function childOf(parent: Origin, type: string, seed: () => string): Origin {
  if (parent.depth >= chainDepthMax) throw tooDeep(`The event "${type}"`, parent)
  return new Origin(parent.depth + 1, seed)
}

export function tooDeep(what: string, { depth }: Origin): HenceError {
  return changeError(
    'chain-too-deep',
    `${what} would be number ${depth + 1} in its chain, and ${chainDepthMax} is the limit: ` +
      'do its reactions follow from each other without end?',
  )
}

export const hexOf = (id: string): string => Buffer.from(id, 'latin1').toString('hex')

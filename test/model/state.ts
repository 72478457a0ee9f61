import type { AppPlan, HopData, Op, Place, RunInput, TaskInput } from './plan.ts'

/** The sender and the id of a request. */
export interface Root {
  readonly requestId: string
  readonly principal: string
}

export const identityOf = ({ requestId, principal }: Root) => `${requestId} ${principal}`
export const keyOf = ({ s, k }: Place) => `${s} ${k}`

export type Outcome =
  | { readonly status: 'accepted'; readonly value: unknown }
  | { readonly status: 'rejected'; readonly reason: string; readonly details?: unknown }
  | { readonly status: 'failed'; readonly code: string }

/** A claim of a request, merged with its others on the same key of the constraint. */
export interface Wanted {
  readonly c: number
  readonly at: string
  readonly units: number
  readonly priority: number
  readonly strict: boolean
  readonly wait?: boolean
  /** The requests whose claims it replaces. */
  readonly instead?: readonly Root[]
  /** Its holder knows that it waits. */
  readonly waiting?: boolean
}

/** A request that asks for claims (`asking`), or holds them. */
export interface Hold {
  readonly root: Root
  readonly input: RunInput
  readonly version: number
  asking: boolean
  granted: number
  claims: Wanted[]
  readonly now: number
  readonly cause: string
}

/** A claim that the judge has granted. */
export interface Granted {
  readonly root: Root
  readonly holder: Place
  readonly units: number
  readonly priority: number
  confirmed: boolean
  /** Its place in the order of claims. */
  readonly n: number
  /** The request is not decided, and what it replaces counts by itself. */
  readonly exchanging?: boolean
  /** The wait that ended with it, and until when it must be confirmed. */
  readonly wait?: string
  readonly confirmBy?: number
}

/** A claim in line. */
export interface Waiter {
  readonly id: string
  readonly root: Root
  readonly holder: Place
  readonly units: number
  readonly priority: number
  readonly n: number
}

export interface Judge {
  /** The absolute limit that a derivation or an operator has set, and what was added since. */
  set: number | undefined
  adjusted: number
  settled: boolean
  waived: number
  claims: Granted[]
  line: Waiter[]
  /** How many claims were made. */
  count: number
}

export interface Violation {
  readonly id: string
  readonly c: number
  readonly at: number
  state: 'open' | 'compensating' | 'resolved'
  excess: number
  deadline: number | null
  victims: {
    root: Root
    key: string
    units: number
    state: 'told' | 'queued' | 'compensated' | 'released' | 'failed'
  }[]
  history: { at: number; what: string; units?: number; by?: Root }[]
}

export interface Timer {
  readonly at: number
  readonly ops: readonly Op[]
  readonly version: number
  readonly root: Root
  readonly cause: string
}

/** Everything that one key has. */
export interface Key {
  readonly place: Place
  lines: string[]
  n: number | undefined
  rows: Map<string, number>
  fixes: Map<string, number>
  timers: Map<string, Timer>
  judges: Map<number, Judge>
  violations: Violation[]
  holds: Hold[]
  /** The identity of the request that waits for verdicts. */
  waiting: string | undefined
  parked: Message[]
}

export interface Effect {
  readonly id: string
  readonly input: TaskInput
  readonly place: Place
  readonly root: Root
  readonly at: number
  /** Of the derivation that asked for it. */
  readonly depth: number
  state: 'pending' | 'done' | 'dead'
  result?: unknown
  /** How often an operator has sent it again. */
  redriven?: number
}

/** How an effect ended: a record of the log. */
export interface Recorded {
  /** Log time, if the result came at once. */
  readonly at?: number
  readonly depth?: number
  readonly id: string
  /** How often the effect had been sent again. */
  readonly n: number
  readonly input: TaskInput
  readonly place: Place
  readonly root: Root
  readonly end:
    | { readonly done: true; readonly got: string }
    | { readonly done: false; readonly error: string }
}

export interface Decision {
  readonly violation: string
  readonly action: 'compensate' | 'choose' | 'waive' | 'raise-limit'
  readonly units?: number
  readonly victims?: readonly Root[]
}

/** An operator sends an effect again. */
export interface Redrive {
  readonly effect: string
  readonly mayRepeat: boolean
}

interface Common {
  readonly to: Place
  /** `tx.now` where the message is derived. */
  readonly now: number
  /** The request at the beginning of the chain. */
  readonly root: Root
  /** Names the derivation, the same in every generation. */
  readonly cause: string
  /** How many messages of its chain precede it; none precede a record. */
  readonly depth?: number
  /** The key that sent it, if one did. */
  readonly from?: string
}

export type Message = Common &
  (
    | {
        readonly kind: 'request'
        readonly input: RunInput
        readonly version: number
        /** The code that an operator has ruled it out for. */
        readonly ruledOut?: AppPlan
      }
    | { readonly kind: 'resolve'; readonly decision: Decision }
    | { readonly kind: 'redrive'; readonly of: Redrive }
    | { readonly kind: 'event'; readonly data: HopData }
    | { readonly kind: 'timer'; readonly ops: readonly Op[]; readonly version: number }
    | {
        readonly kind: 'result'
        readonly of: Recorded
      }
    | { readonly kind: 'claim'; readonly want: Wanted; readonly holder: Place }
    | { readonly kind: 'exchange'; readonly want: Wanted; readonly holder: Place }
    | { readonly kind: 'verdict'; readonly want: Wanted; readonly verdict: 'granted' | 'denied' | 'waits' }
    | { readonly kind: 'release'; readonly c: number; readonly units?: number }
    | { readonly kind: 'confirm' | 'unconfirmed'; readonly c: number }
    | { readonly kind: 'lapse'; readonly c: number; readonly at: string }
    | {
        readonly kind: 'compensate'
        readonly c: number
        readonly at: string
        readonly violation: string | null
      }
    | { readonly kind: 'queued'; readonly c: number; readonly at: string; readonly violation: string | null }
    | { readonly kind: 'served'; readonly c: number; readonly at: string; readonly confirmBy: number | null }
    | {
        readonly kind: 'compensated'
        readonly violation: string
        readonly state: 'compensated' | 'released' | 'failed'
      }
    | { readonly kind: 'deadline'; readonly violation: string }
    | { readonly kind: 'correction'; readonly what: string }
  )

export interface Partition {
  /** By source partition: events on their way, in the order of emission. */
  readonly channels: Message[][]
  /** By partition whose log has them: requests that other code derives here, in the order of the log. */
  readonly moved: Message[][]
  /** Requests, in the order of the log. */
  readonly requests: Message[]
  /** Other records, in any order. */
  readonly loose: Message[]
}

export interface State {
  now: number
  readonly partitions: Partition[]
  readonly keys: Map<string, Key>
  readonly effects: Map<string, Effect>
  /** Results that came before their effects were asked for, in the order of the log. */
  readonly early: Map<string, Recorded[]>
  readonly outcomes: Map<string, Outcome>
  /** By identity: the key of a request of the app. */
  readonly requests: Map<string, Place>
  /** By identity of the request: the codes of reactions that threw. */
  readonly failures: string[]
  /** By id of an operator's request: the violation or effect that it is about. */
  readonly decided: Map<string, string>
  /** By log time: the partitions that have a record of then. */
  readonly records: Map<number, Set<number>>
}

export function newKey(place: Place): Key {
  return {
    place,
    lines: [],
    n: undefined,
    rows: new Map(),
    fixes: new Map(),
    timers: new Map(),
    judges: new Map(),
    violations: [],
    holds: [],
    waiting: undefined,
    parked: [],
  }
}

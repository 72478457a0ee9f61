/**
 * The data of a random app and of a random history. `app.ts` runs it in the engine, `model.ts` in the model;
 * they share these types and no code.
 */

/** A partition key: its scope, by number, and its text. */
export interface Place {
  readonly s: 0 | 1
  readonly k: string
}

/** One thing that a derivation does. Requests, events, timers and effects carry lists of them. */
export type Op =
  /** Appends a line to the journal of the key, whose order shows the order of all derivations of the key. */
  | { readonly do: 'note'; readonly text: string }
  | { readonly do: 'who' }
  | { readonly do: 'now' }
  | { readonly do: 'add'; readonly by: number }
  | { readonly do: 'put'; readonly sub: string; readonly n: number }
  | { readonly do: 'del'; readonly sub: string }
  | { readonly do: 'list' }
  | {
      readonly do: 'emit'
      readonly to: Place
      readonly tag: number
      readonly name?: string
      readonly ops: readonly Op[]
    }
  | { readonly do: 'set'; readonly name: string; readonly in: number; readonly ops: readonly Op[] }
  | { readonly do: 'cancel'; readonly name: string }
  | {
      readonly do: 'ask'
      readonly text: string
      readonly tag: number
      readonly name?: string
      readonly done: readonly Op[]
      readonly dead: readonly Op[]
    }
  | { readonly do: 'release'; readonly c: number; readonly at?: string; readonly units?: number }
  | { readonly do: 'waits'; readonly c: number; readonly at?: string }
  | { readonly do: 'confirm'; readonly c: number; readonly at?: string }
  | { readonly do: 'usage'; readonly c: number }
  | { readonly do: 'limit'; readonly c: number; readonly to: number }
  | { readonly do: 'adjust'; readonly c: number; readonly by: number }
  /** Emits an event with `gone` to each key of scope `s` whose claim was released. */
  | { readonly do: 'settle'; readonly c: number }
  | { readonly do: 'reject'; readonly reason: string }
  | { readonly do: 'throw' }
  | Poison
  /** Does `ops` if the counter of the key is at least `min`. */
  | { readonly do: 'if'; readonly min: number; readonly ops: readonly Op[] }

/** Does not end, or overflows the stack. */
export interface Poison {
  readonly do: 'spin' | 'dive'
  readonly tag: number
}

export interface Want {
  readonly c: number
  readonly at: string
  readonly units: number
  readonly priority: number
  readonly exchange?: boolean
  /** It waits if its constraint has a waiting list. */
  readonly wait?: boolean
}

export interface RunInput {
  readonly k: string
  readonly claims: readonly Want[]
  readonly ops: readonly Op[]
  /** Done by the request's compensation. */
  readonly sorry: readonly Op[]
  /** Done when a claim of the request begins to wait, and when it gets what it waited for. */
  readonly queued?: readonly Op[]
  readonly served?: readonly Op[]
}

export interface TaskInput {
  readonly text: string
  readonly done: readonly Op[]
  readonly dead: readonly Op[]
}

export interface HopData {
  readonly k: string
  readonly ops: readonly Op[]
}

export interface ConstraintPlan {
  readonly s: 0 | 1
  readonly kind: 'unique' | 'capacity'
  readonly mode: 'strict' | 'loose'
  readonly limit: number
  readonly overbook: number | { readonly percent: number }
  readonly victims: 'newest' | 'oldest' | 'lowest-priority'
  readonly review: 'auto' | 'human'
  readonly deadlineMs: number
  readonly waitingList?: { readonly confirmMs?: number; readonly victims?: boolean }
}

/** How a later version of the code differs in deriving. */
export interface Twist {
  /** Stands behind each text that is noted. */
  readonly suffix?: string
  /** Events with this tag are no longer emitted. */
  readonly mute?: number
  /** Before each event with this tag the code emits another one to the same key. */
  readonly echo?: number
  /** Effects with this tag get another text. */
  readonly reword?: number
  /** Before each effect with this tag the code asks for another one. */
  readonly more?: number
  /** Effects with this tag are no longer asked for. */
  readonly silent?: number
  /** Nothing is rejected by `reject`. */
  readonly accepts?: boolean
  /** Nothing is thrown by `throw`. */
  readonly mends?: boolean
  /** Poison with tag 0 does nothing. */
  readonly ends?: boolean
  /** Requests whose key ends with this character go to another key. */
  readonly moves?: string | undefined
  /** Messages have version 2: those of version 1 also note that they are older. */
  readonly upcasts?: boolean
}

export interface AppPlan {
  readonly constraints: readonly ConstraintPlan[]
  readonly twist: Twist
  /** Whether its scopes have a `correct`. */
  readonly corrects: boolean
  /** The limit of a derivation, if something in it does not end. */
  readonly derivationMs?: number
}

export const base = Date.UTC(2026, 0, 1)

import type { Constraint } from '../app/index.ts'
import type { TableState } from '../state/table.ts'
import type { constraintTables } from './tables.ts'

/** Messages between the key that judges a claim and the key of the request that holds it. */
export interface Messages {
  /** Asks for a claim. */
  'hence:claim': Asked
  /** Puts a claim in the place of others, because its request was accepted. */
  'hence:exchange': Asked
  /** Answers a strict claim. */
  'hence:verdict': ClaimOfHolder & {
    /** `full`: denied, and the waiting list has no room. */
    readonly verdict: 'granted' | 'denied' | 'waits' | 'full'
  }
  /** Releases a claim, or some of its units. */
  'hence:release': ClaimRef & { readonly units?: number }
  'hence:confirm': ClaimRef
  /** Notifies the holder that `settle` released its unconfirmed claim. */
  'hence:lapse': ClaimOfHolder
  /** Notifies the holder that it must give way, or has not confirmed in time. */
  'hence:compensate': ClaimOfHolder & {
    readonly violation: string | null
    /** Its number among the victims of the violation. */
    readonly victim?: number
  }
  /** Notifies the holder that its claim waits. */
  'hence:queued': Messages['hence:compensate']
  /** Notifies the holder that it has what it waited for. */
  'hence:served': ClaimOfHolder & { readonly confirmBy: number | null }
  /** Fires when the time to confirm a served claim has passed. */
  'hence:unconfirmed': ClaimRef
  /** Goes on serving the waiting list of a key. */
  'hence:serve': { readonly constraint: string }
  /** Reports the result of that compensation to the judge. */
  'hence:compensated': {
    readonly violation: string
    readonly victim: number
    readonly how: 'compensated' | 'released' | 'failed'
  }
  /** Fires when an operator's time to decide has passed. */
  'hence:deadline': { readonly violation: string }
  /** Goes on choosing the victims of a violation. */
  'hence:choose': { readonly violation: string }
  /** Goes on releasing unconfirmed claims, from an identity on: of the claims granted first, so many. */
  'hence:settle': {
    /** Names what follows from it, in whichever step. */
    readonly id: string
    readonly constraint: string
    readonly before: number
    readonly from: string
    readonly event: string | null
  }
  /** The constraint is declared otherwise from here on, and claims exceed it now, or did before. */
  'hence:declared': { readonly constraint: string }
}

/** Identifies a claim at its judge; the judged key is the key of the message. */
interface ClaimRef {
  readonly constraint: string
  readonly identity: string
}

type Asked = ClaimRef &
  Holding & {
    readonly units: number
    readonly priority: number
    readonly strict: boolean
    readonly wait?: true
    /** The requests whose claims it replaces. */
    readonly instead?: readonly string[]
  }

/** Identifies the request that holds a claim. */
interface Holding {
  readonly identity: string
  readonly scope: string
  readonly holder: string
}

/** Identifies a claim to the request that holds it. */
type ClaimOfHolder = Holding & { readonly constraint: string; readonly key: string }

/** The part of a derivation, under one key, that the judge and the holders use. */
export interface Turn {
  /** The partition key. */
  readonly key: string
  /** In milliseconds since 1970. */
  readonly now: number
  /** Violations from before this that are resolved count as unknown. */
  readonly forgottenBefore: number
  /** The identity of the request at the beginning of the chain. */
  readonly identity: string
  /** Violations that the policy decides at the end of the derivation of the app. */
  readonly undecided: Set<string>
  /** @throws HenceError `unknown-definition` (change) */
  constraint(name: string): Constraint
  rows(table: keyof typeof constraintTables): TableState
  send<T extends keyof Messages>(type: T, key: string, data: Messages[T], how?: Sending): void
  /**
   * Sends a message to this key at a future time.
   * @param at null: not any more
   * @param of as for `send`
   */
  schedule<T extends keyof Messages>(
    type: T,
    name: string,
    at: number | null,
    data: Messages[T],
    of?: string,
  ): void
  /** A new UUID for a name, the same on every replay, and by other code that uses the name as often. */
  id(name: string): string
}

export interface Sending {
  /** Whether the message goes through the log also where it stays in the partition. */
  readonly isLater?: boolean
  /** The id that names the message, with its subject: then its own id does not depend on the step that sends it. */
  readonly of?: string
}

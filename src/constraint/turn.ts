import type { Constraint } from '../app/index.ts'
import type { TableState } from '../state/table.ts'

/** Messages between the key that judges a claim and the key of the request that holds it. */
export interface Messages {
  /** Asks for a claim. */
  'hence:claim': ClaimRef &
    Holding & { readonly units: number; readonly priority: number; readonly strict: boolean }
  /** Answers a strict claim. */
  'hence:verdict': Holding & { readonly constraint: string; readonly key: string; readonly granted: boolean }
  /** Gives a claim back. */
  'hence:release': ClaimRef
  'hence:confirm': ClaimRef
  /** Tells a holder that its claim was released since nobody confirmed it. */
  'hence:lapse': Holding & { readonly constraint: string; readonly key: string }
  /** Tells a holder that it must give way. */
  'hence:compensate': Holding & {
    readonly constraint: string
    readonly key: string
    readonly violation: string
  }
  /** Tells the judge what came of that. */
  'hence:compensated': {
    readonly violation: string
    readonly identity: string
    readonly how: 'compensated' | 'released' | 'failed'
  }
  /** No operator has decided in time. */
  'hence:deadline': { readonly violation: string }
}

/** A claim, as its judge knows it; the judged key is the key of the message. */
export interface ClaimRef {
  readonly constraint: string
  readonly identity: string
}

/** A request, as the key that it stands under knows it. */
export interface Holding {
  readonly identity: string
  readonly scope: string
  readonly holder: string
}

/** What the code of constraints has to do with, within one derivation under one key. */
export interface Turn {
  /** The partition key. */
  readonly key: string
  /** In milliseconds since 1970. */
  readonly now: number
  /** The identity of the request at the beginning of the chain. */
  readonly identity: string
  /** @throws HenceError `unknown-definition` (change) */
  constraint(name: string): Constraint
  rows(table: 'standings' | 'claims' | 'violations' | 'holders'): TableState
  send<T extends keyof Messages>(type: T, key: string, data: Messages[T]): void
  /** Sends a message to this key at a time to come. */
  schedule<T extends keyof Messages>(type: T, name: string, at: number, data: Messages[T]): void
  /** A UUID that is the same on every replay; one for each name. */
  id(name: string): string
}

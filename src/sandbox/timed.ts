import { stackMessage } from './catches.ts'

/** Why a derivation was ended from outside. */
export type InterruptionCode = 'derivation-too-long' | 'derivation-too-large' | 'derivation-too-deep'

/** One derivation of a record: see `Ruling` in `log/record.ts`. */
export interface Interrupted {
  readonly n: number
  readonly kind: string
  readonly type: string
  readonly key: string
}

/** Where a message that is derived stands in the log. */
export interface DerivedAt {
  readonly partition: number
  readonly offset: number
  /** Names a message that has no place of its own, and comes before that record: see `Ruling`. */
  readonly between?: string | undefined
}

/** Describes a derivation, as it stands now: the key of a request is known only while it is derived. */
export function interrupted({ kind, type, key }: Omit<Interrupted, 'n'>, n: number): Interrupted {
  return { n, kind, type, key }
}

/**
 * A derivation was interrupted. It may have been inside any statement, even of Hence's own code, so nothing
 * in memory that it could change may be used any more. It is no HenceError, lest it count as an outcome.
 */
export class Interruption extends Error {
  override readonly name = 'Interruption'
  readonly code: InterruptionCode
  readonly derivation: Interrupted | undefined
  /** How long the derivation had taken, in milliseconds. */
  ms = 0
  /** The position of the record; the processor adds it. */
  at: DerivedAt | undefined

  constructor(code: InterruptionCode, derivation?: Interrupted) {
    super(`A derivation was interrupted: ${code}.`)
    this.code = code
    this.derivation = derivation
  }
}

/** Whether an error is a stack overflow. Apps may throw anything, even what throws when it is read. */
export function isStackOverflow(error: unknown): boolean {
  try {
    const { name, message } = error as Error
    return name === 'RangeError' && message === stackMessage
  } catch {
    return false
  }
}

/** Milliseconds since an arbitrary moment, to time derivations with. */
export const elapsedMs = (): number => performance.now()

import type { Auditor } from '../audit/auditor.ts'
import type { Consistency } from '../audit/consistency.ts'
import type { SignedHead } from '../audit/head.ts'
import type { Receipt } from '../audit/receipt.ts'
import type { StoredOutcome } from '../derivation/stored-outcome.ts'
import { HenceError } from '../failure.ts'
import { identityOf } from '../identity.ts'

/** Signed tree heads and proofs over the log; all of them throw `audit-off` (change) without the option `audit`. */
export interface Audit {
  /**
   * Proof that a request is in the log, for anybody who has the log's public key; undefined when its id is unknown or was
   * forgotten. Waits for a signed head that covers the request, which is made at once.
   * @throws HenceError `audit-off` (change); `head-mismatch`, `audit-failed` (operator)
   */
  receipt(requestId: string, options?: { readonly principal?: string }): Promise<Receipt | undefined>
  /**
   * The newest signed tree head. Its holder can find out later whether anything that it covers was changed.
   * @throws HenceError `audit-off`, and `head-not-found` while the log is empty (change); `head-mismatch`, `audit-failed` (operator)
   */
  head(): Promise<SignedHead>
  /**
   * Proof, for the holder of an earlier head, that the log has only grown between that head and the newest one;
   * `checkConsistency` checks it.
   * @param from the sizes in the earlier head, by partition
   * @throws HenceError `audit-off`, `head-sizes-invalid`, `head-not-found` (change); `log-shorter-than-head`, `head-mismatch`,
   *   `audit-failed` (operator)
   */
  consistency(from: readonly number[]): Promise<Consistency>
}

/** @param stored returns the stored outcome of an identity */
export function auditOf(
  auditor: () => Auditor | undefined,
  stored: (identity: string) => StoredOutcome | undefined,
): Audit {
  const signing = () => {
    const signs = auditor()
    if (signs === undefined) throw auditOff()
    return signs
  }
  return {
    async receipt(requestId, { principal = '' } = {}) {
      const signs = signing()
      const outcome = stored(identityOf(requestId, principal))
      return outcome && signs.receipt(outcome.partition, outcome.offset)
    },
    head: async () => signing().newest(),
    consistency: async (from) => signing().consistency(from),
  }
}

function auditOff(): HenceError {
  return new HenceError(
    'audit-off',
    'change',
    'This engine signs no tree heads, so it proves nothing: start it with the option `audit` (`hence start --audit`).',
  )
}

import { Auditor, type AuditorOptions } from '../audit/auditor.ts'
import type { Consistency } from '../audit/consistency.ts'
import type { SignedHead } from '../audit/head.ts'
import type { Receipt } from '../audit/receipt.ts'
import { openScrubber, type Scrubber } from '../audit/scrubber.ts'
import { changeError } from '../failure.ts'
import { identityOf } from '../identity.ts'
import { type RehearsalOptions, rehearse } from './rehearsal.ts'
import type { RequestPath } from './request-path.ts'

/** Signed tree heads and proofs over the log; all of them throw `audit-off` (change) without the option `audit`. */
export interface Audit {
  /**
   * Proof that a request is in the log, for anybody who has the log's public key; undefined when its id is
   * unknown or was forgotten. Waits for a signed head that covers the request, which is made at once.
   * @throws HenceError `audit-off` (change); `head-mismatch`, `audit-failed` (operator)
   */
  receipt(requestId: string, options?: { readonly principal?: string }): Promise<Receipt | undefined>
  /**
   * The newest signed tree head. Its holder can find out later whether anything that it covers was changed.
   * @throws HenceError `audit-off`, and `head-not-found` while the log is empty (change); `head-mismatch`,
   *   `audit-failed` (operator)
   */
  head(): Promise<SignedHead>
  /**
   * Proof, for the holder of an earlier head, that the log has only grown between that head and the newest
   * one; `checkConsistency` checks it.
   * @param from the sizes in the earlier head, by partition
   * @throws HenceError `audit-off`, `head-sizes-invalid`, `head-not-found` (change); `log-shorter-than-head`,
   *   `head-mismatch`, `audit-failed` (operator)
   */
  consistency(from: readonly number[]): Promise<Consistency>
}

export function auditOf(auditing: Auditing, path: RequestPath): Audit {
  return {
    async receipt(requestId, { principal = '' } = {}) {
      const auditor = auditing.needed()
      const stored = (await path.settled()).processor.decided(identityOf(requestId, principal))
      return stored && auditor.receipt(stored.partition, stored.offset)
    },
    head: async () => auditing.needed().newest(),
    consistency: async (from) => auditing.needed().consistency(from),
  }
}

/** Signs the log's tree heads and scrubs the log in the background, if the engine has the option `audit`. */
export class Auditing {
  #auditor: Auditor | undefined
  #scrubber: Scrubber | undefined

  /** @param rehearsal where there is a directory, what is derived again now and then */
  async open(options: AuditorOptions, rehearsal?: () => RehearsalOptions): Promise<void> {
    const auditor = await Auditor.open(options)
    this.#auditor = auditor
    const rehearsing = async (signal: AbortSignal) => {
      const rehearsed = await rehearse(rehearsal!(), signal)
      return rehearsed && auditor.attest(rehearsed)
    }
    this.#scrubber = await openScrubber({ ...options, rehearse: rehearsal && rehearsing })
  }

  needed(): Auditor {
    if (this.#auditor === undefined)
      throw changeError(
        'audit-off',
        'This engine signs no tree heads, so it proves nothing: start it with the option `audit` (`hence start --audit`).',
      )
    return this.#auditor
  }

  get headAt(): number | undefined {
    return this.#auditor?.head?.time
  }

  get scrubbedAt(): number | undefined {
    return this.#scrubber?.passedAt
  }

  get rehearsedAt(): number | undefined {
    return this.#scrubber?.rehearsedAt
  }

  async close(): Promise<void> {
    try {
      await this.#scrubber?.close()
    } finally {
      await this.#auditor?.close()
    }
  }
}

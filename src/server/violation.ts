import { HenceError } from '../failure.ts'
import type { KeyedClaim, KeyedViolation } from '../query/reader.ts'
import type { Answer } from './answer.ts'
import { jsonAnswer } from './json-answer.ts'
import type { Arrival } from './route.ts'
import type { Serving } from './serving.ts'

/** The answer of `GET /violations/{key}/{id}`. */
export interface ViolationView {
  readonly violation: KeyedViolation
  /** The limit at its key, without its margin, and the units claimed. */
  readonly limit: number
  readonly claimed: number
  /** The first claims in the order in which they give way. */
  readonly claims: readonly KeyedClaim[]
}

const claimsMax = 200

/** `GET /violations/{key}/{id}`: a violation, and the claims that may give way. */
export async function violation({ engine }: Serving, { request, parts }: Arrival): Promise<Answer> {
  const [key, id] = parts as [string, string]
  const { violations } = engine
  const found = await violations.get(key, id)
  if (found === undefined) {
    throw new HenceError(
      'violation-not-found',
      'change',
      `There is no violation ${JSON.stringify(id)} at ${JSON.stringify(key)}, or it was resolved long ago.`,
    )
  }
  const { limit, claimed } = await violations.usage(found.constraint, key)
  const claims = await violations.claims(found.constraint, key, { limit: claimsMax })
  const answer: ViolationView = { violation: found, limit, claimed, claims }
  return jsonAnswer(request, answer)
}

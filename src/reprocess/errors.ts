import { changeError, HenceError, operatorError } from '../failure.ts'
import type { ControlFact } from '../log/control-history.ts'
import type { CandidateManifest } from './manifest.ts'

/** Returns a HenceError as it is, and any other error as the cause of `reprocess-failed` (operator). */
export function reprocessFailure(error: unknown, what: string): HenceError {
  if (error instanceof HenceError) return error
  return operatorError('reprocess-failed', `${what}: ${error}`, { cause: error })
}

export const candidatePaused = () =>
  changeError('reprocess-paused', 'The candidate is paused. Resume it first (`hence reprocess resume`).')

export const noCandidate = () =>
  changeError(
    'reprocess-none',
    'There is no candidate, only the live generation. Begin one first (`hence reprocess run APP`).',
  )

export function candidateExists({ generation, version, wasLive }: CandidateManifest): HenceError {
  const what = wasLive
    ? `Generation ${generation}, which was live before, is kept for a rollback`
    : `Generation ${generation} is being derived by version ${version.slice(0, 12)} of the code`
  return changeError(
    'reprocess-exists',
    `${what}, and there can be only one candidate. Discard it first (\`hence reprocess discard\`).`,
  )
}

export const sameCode = (version: string) =>
  changeError(
    'reprocess-same-code',
    `Version ${version.slice(0, 12)} of the code is already live. Add \`--again\` to derive everything ` +
      'again with it, for example to see that nothing differs.',
  )

export function unknownDiff(diff: string, last: string | undefined): HenceError {
  const found = last === undefined ? 'which has not been compared yet' : `which is ${last}`
  return changeError(
    'diff-unknown',
    `${JSON.stringify(diff)} is not the last diff of this candidate, ${found}. ` +
      'Compare again (`hence reprocess diff`), and approve the diff that it shows.',
  )
}

export const approvalReused = ({ requestId, number }: Extract<ControlFact, { type: 'promotion' }>) =>
  changeError(
    'request-id-reused',
    `Request id ${requestId} has already approved another diff, in promotion ${number}. Nothing was changed: ` +
      'use a new id for a new approval.',
  )

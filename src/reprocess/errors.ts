/** Why a change of generations is refused. */
import { HenceError } from '../failure.ts'
import type { Promoted } from './correction-files.ts'
import type { CandidateManifest } from './manifest.ts'

export function noneBeside(): HenceError {
  return new HenceError(
    'reprocess-none',
    'change',
    'There is one generation of derived state only. Begin another one first (`hence reprocess run`).',
  )
}

export function oneExists({ generation, version, wasLive }: CandidateManifest): HenceError {
  const what = wasLive
    ? `Generation ${generation}, which was live before, is kept for the way back`
    : `Generation ${generation} is being derived by version ${version.slice(0, 12)} of the code`
  return new HenceError(
    'reprocess-exists',
    'change',
    `${what}, and there can be one beside the live one only. Give it up first (\`hence reprocess discard\`).`,
  )
}

export function sameCode(version: string): HenceError {
  return new HenceError(
    'reprocess-same-code',
    'change',
    `Version ${version.slice(0, 12)} of the code is in force already. To derive everything again with it all the same, to see that nothing differs, say so (\`--again\`).`,
  )
}

export function unknownDiff(diff: string, last: string | undefined): HenceError {
  return new HenceError(
    'diff-unknown',
    'change',
    `${JSON.stringify(diff)} is not the last diff of this generation, ${last === undefined ? 'of which none was made yet' : `which is ${last}`}. ` +
      'Look at the differences as they are now (`hence reprocess diff`), and approve those.',
  )
}

export function approvalReused({ requestId, number }: Promoted): HenceError {
  return new HenceError(
    'request-id-reused',
    'change',
    `The request id ${requestId} has approved another diff before, in promotion ${number}. Nothing was changed: use a new id for a new approval.`,
  )
}

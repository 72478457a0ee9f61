import type { Storage } from '../storage/storage.ts'

/** What is kept of the generations beside their state; derived, as they are. */
export interface Manifest {
  readonly live: number
  readonly other?: CandidateManifest
}

export interface CandidateManifest {
  readonly generation: number
  readonly version: string
  readonly wasLive: boolean
  readonly paused: boolean
  readonly share?: number
  readonly diff?: string
}

/** The name that it is kept under. */
export const manifestName = 'state/generations.json'

/** Reads which generations there were, as far as it was noted. */
export async function readManifest(kept: Storage['kept']): Promise<Manifest> {
  const text = await kept(manifestName)
  try {
    const note = text === undefined ? undefined : JSON.parse(text)
    if (isNote(note)) return note
  } catch {
    // See below.
  }
  // It holds nothing that the log and the states do not; a derivation that was not finished begins again.
  return { live: 0 }
}

function isNote(note: unknown): note is Manifest {
  const { live, other } = (note ?? {}) as Partial<Manifest>
  return (
    Number.isSafeInteger(live) &&
    (other === undefined || (Number.isSafeInteger(other.generation) && typeof other.version === 'string'))
  )
}

import type { Storage } from '../storage/storage.ts'

/** Which generations there are. It is derived, like the state beside it, and may be lost together with that. */
export interface Manifest {
  readonly live: number
  readonly candidate?: CandidateManifest
}

export interface CandidateManifest {
  readonly generation: number
  readonly version: string
  readonly wasLive: boolean
  readonly paused: boolean
  readonly share?: number
  readonly diff?: string
}

const manifestName = 'state/generations.json'

/** Reads the manifest. Without a readable one there is no candidate: an unfinished derivation begins again. */
export async function readManifest(kept: Storage['kept']): Promise<Manifest> {
  const text = await kept(manifestName)
  try {
    const manifest = text === undefined ? undefined : JSON.parse(text)
    if (isManifest(manifest)) return manifest
  } catch {
    // Not JSON: see above.
  }
  return { live: 0 }
}

/** Most starts find it as it is to be, and need not wait for the disk. */
export async function writeManifest(
  storage: Pick<Storage, 'keep' | 'kept'>,
  manifest: Manifest,
): Promise<void> {
  const text = JSON.stringify(manifest)
  if ((await storage.kept(manifestName)) !== text) await storage.keep(manifestName, text)
}

function isManifest(value: unknown): value is Manifest {
  const { live, candidate } = (value ?? {}) as Partial<Manifest>
  return (
    Number.isSafeInteger(live) &&
    (candidate === undefined ||
      (Number.isSafeInteger(candidate.generation) && typeof candidate.version === 'string'))
  )
}

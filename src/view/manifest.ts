import { keptCode } from '../generation/codes.ts'
import type { AppBundle } from '../sandbox/bundle.ts'
import type { Storage } from '../storage/storage.ts'
import type { ManifestEntry } from './fold.ts'

/** Where a data directory keeps which rows of each view answer, and which are being derived. */
export const manifestName = 'state/views.json'

export interface ViewsManifest {
  readonly answering: readonly ManifestEntry[]
  readonly building: readonly ManifestEntry[]
}

export const entriesOf = ({ answering, building }: ViewsManifest) => [...answering, ...building]

export async function readViewsManifest(kept: Storage['kept']): Promise<ViewsManifest> {
  const none = { answering: [], building: [] }
  try {
    const manifest = JSON.parse((await kept(manifestName)) ?? 'null')
    return isManifest(manifest) ? manifest : none
  } catch (error) {
    // Damaged: all views are derived again, as without this file.
    if (error instanceof SyntaxError) return none
    throw error
  }
}

/** The modules of the views that a data directory has, so that their rows can be read without the sources. */
export async function viewsKept(kept: Storage['kept']): Promise<AppBundle[]> {
  const entries = entriesOf(await readViewsManifest(kept))
  const versions = new Map(entries.map(({ name, version }) => [name, version]))
  return Promise.all([...new Set(versions.values())].map((version) => keptCode(kept, version)))
}

function isManifest(value: unknown): value is ViewsManifest {
  const { answering, building } = (value ?? {}) as Partial<ViewsManifest>
  return [answering, building].every((entries) => Array.isArray(entries) && entries.every(isEntry))
}

function isEntry(value: unknown): value is ManifestEntry {
  const { name, version, generation } = (value ?? {}) as Partial<ManifestEntry>
  return typeof name === 'string' && typeof version === 'string' && Number.isSafeInteger(generation)
}

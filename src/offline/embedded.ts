import type { App } from '../app/index.ts'
import type { Engine } from '../engine/engine.ts'
import { createEngine } from '../engine/open-engine.ts'
import type { Reporter } from '../report.ts'
import { kept } from '../storage/storage.ts'
import { viewsKept } from '../view/manifest.ts'
import { readCode } from './code.ts'
import { snapshotData } from './data-snapshot.ts'
import { versionInForce } from './version-in-force.ts'

/**
 * Opens the engine of a data directory in this process, for commands that need no server. Without a module it
 * uses the code in force that the directory keeps, so that data can be read where the sources are not.
 * @throws HenceError `no-log`, `code-not-kept` (change), and what `createEngine` throws
 */
export async function openEmbedded(options: {
  readonly data: string
  readonly app: string | undefined
  /** Whether the engine signs tree heads, which receipts require. */
  readonly audit?: boolean
  readonly report: Reporter
}): Promise<Engine<App>> {
  const { data, report, audit = false } = options
  const views = await viewsKept((name) => kept(data, name))
  // Without a module throws for a mistyped name, which must not create a directory.
  const app = options.app ?? (await readCode(data, await versionInForce(data, await snapshotData(data))))
  return createEngine({ app, data, views, report, audit })
}

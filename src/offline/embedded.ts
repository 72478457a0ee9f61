import type { App } from '../app/index.ts'
import type { Engine } from '../engine/engine.ts'
import { createEngine, openEngine } from '../engine/open-engine.ts'
import type { Reporter } from '../report.ts'
import { hostApp } from '../sandbox/program.ts'
import { loadApp } from './app-module.ts'
import { readCode } from './code.ts'
import { snapshotData } from './data-snapshot.ts'
import { versionInForce } from './version-in-force.ts'

/**
 * Opens the engine of a data directory in this process, for a command that no server is needed for. Without a module
 * the app is the one whose code the directory keeps, so data can be read where the sources are not.
 * @throws HenceError `no-log`, `code-not-kept` (change), and what `createEngine` throws
 */
export async function openEmbedded(options: {
  readonly data: string
  readonly app: string | undefined
  /** Whether it signs tree heads, as receipts need it. */
  readonly audit?: boolean
  readonly report: Reporter
}): Promise<Engine<App>> {
  const { data, report, audit = false } = options
  if (options.app !== undefined) {
    const { app, module } = await loadApp(options.app)
    return createEngine({ app, module, data, report, audit })
  }
  // Only to look: a directory that is not there must not come into being by a wrong name.
  const snapshot = await snapshotData(data)
  const code = await readCode(data, await versionInForce(data, snapshot))
  return openEngine({ app: hostApp(code), data, report, audit }, code)
}

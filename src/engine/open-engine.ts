import type { App } from '../app/index.ts'
import { pause } from '../clock.ts'
import { HenceError } from '../failure.ts'
import { fileFailure } from '../file-failure.ts'
import { Codes } from '../generation/codes.ts'
import type { Report } from '../report.ts'
import { bundleApp } from '../sandbox/bundle.ts'
import { sandboxed } from '../sandbox/program.ts'
import { makeReserve } from '../storage/reserve.ts'
import { openDirectory, type Storage } from '../storage/storage.ts'
import type { Engine, EngineOptions } from './engine.ts'
import { settingsOf } from './settings.ts'
import { startEngine } from './start.ts'

/** How long a start waits before it tries again to reach the carrier, in milliseconds. */
const againMs = 1_000

/**
 * Opens an engine: recovers the log, restores the last checkpoint, derives the records after it, and is
 * ready.
 *
 * @throws HenceError `data-in-use` (retry); `partitions-mismatch`, `code-changed`, `code-not-kept`,
 *   `table-shape-changed`, `take-over-incomplete`, `fill-failed`, `bundle-failed`, `option-invalid` (change); `log-damaged`, `log-missing`,
 *   `log-shorter-than-state`, `state-of-another-log`, `state-unreadable`, `divergence`, `unknown-message`,
 *   `data-unusable`, `file-misplaced`, `file-unusable` (operator); with `log`, also the errors of opening it
 */
export async function createEngine<A extends App>(options: EngineOptions<A>): Promise<Engine<A>> {
  const settings = settingsOf(options)
  const { app, data, log, address, partitions, wait, clock, report } = settings
  const { signal = new AbortController().signal } = settings
  const runtime = ['bun', 'deno'].find((name) => name in process.versions)
  if (runtime !== undefined) report(withoutLimits(runtime))
  const code = await bundleApp(app)
  // Code that does not load touches nothing.
  const program = sandboxed(code)
  let said: string | undefined
  for (;;) {
    let storage: Storage | undefined
    try {
      storage =
        typeof data === 'string'
          ? await openDirectory({
              directory: data,
              partitions,
              clock,
              report,
              wait,
              signal,
              carrier: log,
              address,
            })
          : data
      const codes = await Codes.open(code, program, storage)
      const engine = await startEngine<A>(settings, codes, storage)
      if (typeof data === 'string') makeReserve(data)
      return engine
    } catch (error) {
      // The first error says why; what fails after it does too.
      await storage?.close().catch(() => {})
      const failed = wait && error instanceof HenceError ? error.code : ''
      // Of two processes that wait, one is first, and the other follows that one.
      if (failed === 'log-taken') continue
      if (failed !== 'carrier-unreachable') throw fileFailure(error) ?? error
      const message = `${(error as Error).message} This start waits for it.`
      if (said !== message) report({ level: 'warning', code: failed, message })
      said = message
      await pause(clock, againMs, signal)
      signal.throwIfAborted()
    }
  }
}

/** Only Node can end a function of the app that does not return. */
function withoutLimits(runtime: string): Report {
  return {
    level: 'warning',
    code: 'runtime-without-limits',
    message:
      `This process runs on ${runtime}: a derivation that does not end stops it for good, and records derived ` +
      'here may be derived differently on Node. Develop on it if you like; run production on Node.',
  }
}

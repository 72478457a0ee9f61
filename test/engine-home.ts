import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'

/** A folder for the data directories of engines on one log. */
export interface EngineHome {
  readonly home: string
  /** Aborts after the test, so that engines that wait for the log give up. */
  readonly signal: AbortSignal
  /** Closes an engine after the test. */
  closing<E extends { close(): Promise<void> }>(engine: E): E
}

export async function engineHome(t: Pick<TestContext, 'after'>): Promise<EngineHome> {
  const home = await mkdtemp(join(tmpdir(), 'hence-engines-'))
  const stop = new AbortController()
  const engines: { close(): Promise<void> }[] = []
  t.after(async () => {
    stop.abort()
    for (const engine of engines) await engine.close()
    await rm(home, { recursive: true })
  })
  return {
    home,
    signal: stop.signal,
    closing(engine) {
      engines.push(engine)
      return engine
    },
  }
}

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { App } from '../app/index.ts'
import type { Clock } from '../clock.ts'
import type { Engine } from '../engine/engine.ts'
import { openEngine } from '../engine/open-engine.ts'
import type { LogSnapshot } from '../log/file-log/snapshot.ts'
import { catchUp, failureOf } from '../reprocess/catch-up.ts'
import type { Diff, ReprocessStatus } from '../reprocess/reprocessing.ts'
import { hostApp } from '../sandbox/program.ts'
import { openLmdbStore } from '../state/lmdb-store.ts'
import type { Storage } from '../storage/storage.ts'
import { keptIn, readCode } from './code.ts'
import { logOfSnapshot } from './log-of-snapshot.ts'
import { shadowLog } from './shadow-log.ts'
import type { Survey } from './survey.ts'

export interface DryRun {
  /** Of the generation that the new code derived. */
  readonly status: ReprocessStatus
  /** How long that took, in milliseconds. */
  readonly ms: number
  readonly diff: Diff
}

/**
 * Derives what a survey of a log has seen by the code that was in force there, then by other code, and compares: all of it in a
 * temporary directory (of `TMPDIR`) and in memory. The directory of the log is only read.
 * @throws HenceError what reprocessing throws; what stopped the new code (operator)
 */
export async function dryRun(options: {
  readonly data: string
  readonly snapshot: LogSnapshot
  readonly survey: Survey
  /** The version in force. */
  readonly version: string
  readonly module: string
  readonly samples: number
  readonly each?: (line: string) => void
  readonly read: (records: number) => void
  readonly heard: (status: ReprocessStatus) => void
  readonly signal: AbortSignal
}): Promise<DryRun> {
  const { data, snapshot, survey, version, module, samples, each, read, heard, signal } = options
  const temporary = await mkdtemp(join(tmpdir(), 'hence-check-'))
  let engine: Engine<App> | undefined
  try {
    const code = await readCode(data, version)
    const log = shadowLog(logOfSnapshot(snapshot, survey.ends), {
      ends: survey.ends,
      until: survey.until,
      read,
    })
    engine = await openEngine(
      {
        app: hostApp(code),
        data: temporaryStorage(temporary, data, log),
        // Nothing that is yet to come goes off: what the log holds is compared, and nothing else.
        clock: stoppedAt(survey.until),
        report: () => {},
      },
      code,
    )
    const { reprocessing } = engine
    const startedAt = performance.now()
    await reprocessing.start({ module }, { share: 1, again: true })
    const status = await catchUp(() => reprocessing.status(), signal, heard)
    const ms = performance.now() - startedAt
    signal.throwIfAborted()
    if (status!.state === 'failed') throw failureOf(status!)
    const diff = await reprocessing.diff({ samples, signal, ...(each && { each }) })
    return { status: status!, ms, diff }
  } finally {
    await engine?.close()
    await rm(temporary, { recursive: true, force: true })
  }
}

/** What is derived goes to a folder, what is kept stays in memory; code that the directory keeps is read there. */
function temporaryStorage(folder: string, data: string, log: Storage['log']): Storage {
  const texts = new Map<string, string>()
  const storeFolder = (generation: number) => join(folder, String(generation))
  return {
    log,
    openStore: (generation, collections) =>
      openLmdbStore({ directory: storeFolder(generation), collections }),
    dropStore: (generation) => rm(storeFolder(generation), { recursive: true, force: true }),
    async keep(name, text) {
      texts.set(name, text)
    },
    async kept(name) {
      return texts.get(name) ?? (name.startsWith('code/') ? keptIn(data, name) : undefined)
    },
    close: () => log.close(),
  }
}

function stoppedAt(time: number): Clock {
  return { now: () => time, alarm: () => () => {} }
}

import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { App } from '../app/index.ts'
import { assert } from '../assert.ts'
import type { Clock } from '../clock.ts'
import type { Engine } from '../engine/engine.ts'
import { createEngine } from '../engine/open-engine.ts'
import type { LogSnapshot } from '../log/file-log/snapshot.ts'
import type { Batch, Log } from '../log/log.ts'
import { memoryLog } from '../log/memory-log.ts'
import { catchUp, failureOf } from '../reprocess/catch-up.ts'
import type { Diff, ReprocessStatus } from '../reprocess/reprocessing.ts'
import type { AppSource } from '../sandbox/bundle.ts'
import { sandboxed } from '../sandbox/program.ts'
import { openLmdbStore } from '../state/lmdb-store.ts'
import type { Store } from '../state/store.ts'
import type { StateName } from '../storage/states.ts'
import { kept, type Storage } from '../storage/storage.ts'
import { readCode } from './code.ts'
import { logOfSnapshot } from './log-of-snapshot.ts'
import { beginStep, type LongWork } from './progress.ts'
import type { SchemaFits } from './schema-fits.ts'
import type { Survey } from './survey.ts'
import { withTemporaryFolder } from './temporary-folder.ts'
import { versionInForce } from './version-in-force.ts'

interface DerivedTwice {
  readonly status: ReprocessStatus
  readonly diff: Diff
}

/**
 * Derives the part of a log that a survey has read by the code in force there, then by other code, and
 * compares both. It works in memory and in a temporary directory (in `TMPDIR`), and only reads the data
 * directory.
 * @throws HenceError what reprocessing throws; the error that stopped the new code (operator)
 */
export function deriveTwice(options: {
  readonly data: string
  readonly snapshot: LogSnapshot
  readonly survey: Survey
  readonly app: AppSource
  readonly samples: number
  readonly each?: ((line: string) => unknown) | undefined
  readonly work: LongWork
  readonly fits: SchemaFits
}): Promise<DerivedTwice> {
  const { data, snapshot, survey, app, samples, each, work, fits } = options
  const signal = work.signal ?? new AbortController().signal
  return withTemporaryFolder('hence-check-', async (temporary) => {
    let engine: Engine<App> | undefined
    try {
      const code = await readCode(data, survey.version ?? (await versionInForce(data, snapshot)))
      const derived = beginStep(work, 'derive', 'records', 2 * survey.records)
      let done = 0
      const reached = (records: number) => {
        derived(records - done)
        done = records
      }
      // The log is read once to derive it by the code in force; how far the new code is, its status says.
      const read = (records: number) => {
        if (engine === undefined) reached(Math.min(survey.records, done + records))
      }
      const { ends, until } = survey
      const log = shadowLog(logOfSnapshot(snapshot, ends), { ends, until, read })
      const stores = new Map<StateName, Store>()
      engine = await createEngine({
        app: code,
        data: temporaryStorage(temporary, data, log, stores),
        // No timer later than the log fires: the comparison covers what the log holds, and nothing else.
        clock: stoppedAt(until),
        report: () => {},
        // Two engines' worth of rows are in memory.
        checkpointRows: 5_000,
      })
      const { reprocessing } = engine
      // The generation that was live before the last promotion is kept for a way back, here too.
      if ((await reprocessing.status()) !== undefined) await reprocessing.discard()
      await reprocessing.start({ app }, { share: 1, again: true })
      const status = await catchUp(
        () => reprocessing.status(),
        signal,
        ({ records }) => {
          reached(survey.records + records)
        },
      )
      signal.throwIfAborted()
      if (status!.state === 'failed') throw failureOf(status!)
      const diff = await reprocessing.diff({ samples, signal, ...(each && { each }) })
      // The diff has saved both generations.
      const view = stores.get(survey.live)!.view()
      try {
        const { tables } = sandboxed(code).app
        await fits.state(view, tables, log.partitions, beginStep(work, 'compare', 'rows'))
      } finally {
        view.close()
      }
      return { status: status!, diff }
    } catch (error) {
      signal.throwIfAborted()
      throw error
    } finally {
      await engine?.close()
    }
  })
}

/** Stores derived state in a folder and kept texts in memory; code that the data directory keeps is read there. */
function temporaryStorage(
  folder: string,
  data: string,
  log: Storage['log'],
  stores: Map<StateName, Store>,
): Storage {
  const texts = new Map<string, string>()
  const storeFolder = (generation: StateName) => join(folder, String(generation))
  return {
    log,
    async openStore(generation, collections) {
      const store = await openLmdbStore({ directory: storeFolder(generation), collections })
      stores.set(generation, store)
      return store
    },
    dropStore: (generation) => rm(storeFolder(generation), { recursive: true, force: true }),
    async keep(name, text) {
      texts.set(name, text)
    },
    async kept(name) {
      return texts.get(name) ?? (name.startsWith('code/') ? kept(data, name) : undefined)
    },
    close: () => log.close(),
  }
}

function stoppedAt(time: number): Clock {
  return { now: () => time, alarm: () => () => {} }
}

/**
 * The snapshot of a log, continued in memory: appended records reach neither the disk nor another reader.
 * @param options.ends the offset at which each partition of the snapshot ends
 * @param options.until the log time of the last record before these ends; appended records get it too
 * @param options.read called with the number of records of each batch that is read from the snapshot
 */
function shadowLog(
  snapshot: Log,
  options: {
    readonly ends: readonly number[]
    readonly until: number
    readonly read: (records: number) => void
  },
): Log {
  const { ends, until, read } = options
  const { id, partitions } = snapshot
  assert(ends.length === partitions, 'a shadow log has an end for every partition', ends.length, partitions)
  const tail = memoryLog({ id, partitions, clock: { now: () => until } })
  return {
    id,
    partitions,
    async append(partition, records) {
      const { offset, time } = await tail.append(partition, records)
      return { offset: ends[partition]! + offset, time }
    },
    async *read(partition, from): AsyncGenerator<Batch> {
      const end = ends[partition]!
      if (from < end) {
        for await (const batch of snapshot.read(partition, from)) {
          read(batch.records.length)
          yield batch
        }
      }
      for await (const batch of tail.read(partition, Math.max(0, from - end))) {
        yield { ...batch, offset: end + batch.offset }
      }
    },
    end: async (partition) => ends[partition]! + (await tail.end(partition)),
    close: () => tail.close(),
  }
}

/** The main module of the child process that derives the candidate; `CandidateChild` starts it. */
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { elapsed, systemClock } from '../clock.ts'
import { comparedCollections } from '../diff/diff.ts'
import type { DiffSummary } from '../diff/diff-summary.ts'
import { engineClosed } from '../failure.ts'
import { deriveApart } from '../generation/apart.ts'
import { keptCode } from '../generation/codes.ts'
import { realDisk } from '../log/file-log/disk.ts'
import { type GrowingLog, openGrowingLog } from '../log/file-log/growing-log.ts'
import { everyPartition, recordsBefore } from '../log/partitions.ts'
import { printReport } from '../report.ts'
import { type Program, sandboxed } from '../sandbox/program.ts'
import type { DerivedAt } from '../sandbox/timed.ts'
import { openLmdbStore } from '../state/lmdb-store.ts'
import { holdFile } from '../storage/file-lock.ts'
import { derivingRunName, RunFile } from '../storage/run-file.ts'
import { States, stateFolder } from '../storage/states.ts'
import { derivingLock, keep, kept, stillDeriving } from '../storage/storage.ts'
import { CandidateInProcess, type InProcessHost, type SavedGeneration } from './candidate-in-process.ts'
import type { ChildFunctions, ChildOptions, EngineFunctions } from './child-protocol.ts'
import { RpcConnection } from './rpc.ts'

/** How often it checks whether its progress has changed, in milliseconds. */
const progressMs = 100
/** It reports its progress at least this often, in milliseconds, to show that it is alive. */
const aliveMs = 1_000
/** Lines of a diff are sent together, in pieces of about this many characters. */
const pieceLength = 64 * 1024
/** How long a call may have to wait, in milliseconds. */
const sliceMsMax = 20
/** How often it tries to get the lock, and the time between tries, in milliseconds. */
const triesMax = 100
const tryMs = 50

let candidate: CandidateInProcess | undefined
let share = 1
let log: GrowingLog | undefined
/** In a variable of the module, because a lock that is garbage-collected is released. */
let lock: ReturnType<typeof holdFile>
let run: RunFile | undefined

// Ctrl-C reaches the whole process group; only the engine decides when this process exits.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {})
process.on('disconnect', () => {
  // That the engine has ended is no record's fault.
  run?.close()
  if (candidate === undefined) process.exit()
  // Nothing must delay it, for example a write of LMDB: everything unsaved can be derived again.
  process.kill(process.pid, 'SIGKILL')
})

/** Reports the progress after each call. */
function reporting<Values extends unknown[], T>(act: (...values: Values) => T | Promise<T>) {
  return async (...values: Values): Promise<T> => {
    try {
      return await act(...values)
    } finally {
      reportProgress()
    }
  }
}

const local: ChildFunctions = {
  open: reporting(open),
  setShare: reporting((given) => {
    share = given
    return candidate!.setShare(share)
  }),
  start: reporting(() => candidate!.start()),
  pause: reporting(() => candidate!.pause()),
  caughtUp: reporting(() => candidate!.caughtUp()),
  align: reporting((to) => {
    log!.grow(to.positions)
    return candidate!.align(to)
  }),
  save: reporting((prune) => candidate!.save(prune)),
  snapshot: reporting((live) => candidate!.snapshot(live)),
  compare: reporting(compare),
  stopComparing: () => candidate!.stopComparing(),
  correctAhead: reporting((live, changed) => candidate!.correctAhead(live, changed)),
  writeCorrections: reporting((number) => candidate!.writeCorrections(number)),
  correct: reporting((live, changed, number) => candidate!.correct(live, changed, number)),
  release: reporting(() => candidate!.release()),
  close: async () => {
    await candidate?.close(engineClosed())
    candidate = undefined
    run?.close()
    run = undefined
  },
}

const connection = new RpcConnection<EngineFunctions>(
  {
    // A failure to send is ignored: then the engine is gone, and so is this process in a moment.
    send: (message) => process.send!(message, undefined, undefined, () => {}),
    receive: (listener) => process.on('message', listener),
  },
  local,
)

let reported = ''
let reportedAt = 0
function reportProgress(): void {
  if (candidate === undefined) return
  const { progress } = candidate
  const text = JSON.stringify(progress)
  const now = elapsed(systemClock)
  if (text === reported && now - reportedAt < aliveMs) return
  reported = text
  reportedAt = now
  void connection.call('reportProgress', progress).catch(() => {})
}

/** Kills this process soon after the engine's has exited, even while a derivation does not return. */
function exitWith(engine: number): void {
  const watch = `setInterval(() => { if (process.ppid !== ${engine}) process.kill(process.pid, 'SIGKILL') }, 500)`
  // On Windows `ppid` stays the same when the parent exits.
  if (process.platform !== 'win32') new Worker(watch, { eval: true }).unref()
}

async function open(options: ChildOptions): Promise<void> {
  const { directory, engine, checkpointRows, checked, derivationMs } = options
  share = options.share
  exitWith(engine)
  // A child that was started before may be about to exit.
  for (let tries = 0; lock === undefined; tries++) {
    if (tries === triesMax) throw stillDeriving(directory)
    if (tries > 0) await pause(tryMs)
    lock = holdFile(join(directory, derivingLock))
  }
  run = RunFile.open(directory, derivingRunName)
  if (options.anew) run.ended()
  const growing = await openGrowingLog(directory)
  log = growing
  let liveRecords = 0
  const codeOf = (version: string) => keptCode((name) => kept(directory, name), version)
  const programs = new Map<string, Program>()
  const liveProgram = async (version: string): Promise<Program> => {
    const program = programs.get(version) ?? sandboxed(await codeOf(version))
    programs.set(version, program)
    return program
  }
  const states = new States({
    directory,
    clock: systemClock,
    report: printReport,
    // Nobody waits for this process.
    checkedFirstBytes: Number.POSITIVE_INFINITY,
  })
  const host: InProcessHost = {
    clock: systemClock,
    generations: {
      log,
      openStore: (...given) => states.open(...given),
      programOf: async (version) => sandboxed(await codeOf(version)),
      checked,
      derivationMs,
    },
    async liveProgress(beyond) {
      const live = await connection.call('liveProgress', beyond)
      growing.grow(live.positions)
      liveRecords = recordsBefore(live.positions)
      return live
    },
    liveRecords: () => liveRecords,
    async rule(partition, ruling) {
      growing.grow(await connection.call('rule', partition, ruling))
    },
    report: (report) => void connection.call('report', report).catch(() => {}),
    // Live work is in another process, so nothing waits; with a share below 1 it rests all the same.
    isBusy: () => share < 1,
    next: () => new Promise(() => {}),
    sliceMsMax,
    checkpointRows,
    viewLive: async (live) => viewOf(directory, live.generation, await liveProgram(live.version)),
    keep: (name, text) =>
      options.carried ? connection.call('keep', name, text) : keep(realDisk, directory, name, text),
    changed: reportProgress,
  }
  const afterDeath = run.died &&
    !options.anew && {
      run,
      async deriveApart(at: DerivedAt) {
        const { lineage, base: version } = options
        const ends = await Promise.all(everyPartition(growing).map((partition) => growing.end(partition)))
        return deriveApart({ directory, lineage, version, ends, at, checked, derivationMs })
      },
    }
  // Before it starts it must know how many records there are, or it would count as caught up.
  await host.liveProgress()
  candidate = await CandidateInProcess.open({ ...host, ...(afterDeath && { afterDeath }) }, options)
  setInterval(reportProgress, progressMs)
}

async function viewOf(
  directory: string,
  generation: number,
  { app, realm, version }: Program,
): Promise<SavedGeneration> {
  const store = await openLmdbStore({
    directory: stateFolder(directory, generation),
    collections: [...comparedCollections(app), 'meta'],
    readOnly: true,
  })
  const { get, range, close } = store.view()
  return {
    app,
    realm,
    version,
    store: {
      get,
      range,
      close() {
        close()
        void store.close()
      },
    },
  }
}

async function compare({ samples, lines }: Parameters<ChildFunctions['compare']>[0]): Promise<DiffSummary> {
  let piece: string[] = []
  let length = 0
  const send = () => {
    const full = piece
    piece = []
    length = 0
    return connection.call('takeLines', full)
  }
  const each = (line: string) => {
    piece.push(line)
    length += line.length
    return length < pieceLength ? undefined : send()
  }
  const summary = await candidate!.compare({ samples, each: lines ? each : undefined })
  if (piece.length > 0) await send()
  return summary
}

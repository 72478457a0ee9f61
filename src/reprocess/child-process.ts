/** The process that derives a generation beside the live one, which is in the process that has started it. */
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import type { App } from '../app/index.ts'
import { comparedCollections } from '../diff/diff.ts'
import type { DiffSummary } from '../diff/diff-summary.ts'
import { engineClosed } from '../failure.ts'
import { keptCode } from '../generation/codes.ts'
import { realDisk } from '../log/file-log/disk.ts'
import { type GrowingLog, openGrowingLog } from '../log/file-log/growing-log.ts'
import { recordsBefore } from '../log/partitions.ts'
import { hostApp, sandboxed } from '../sandbox/program.ts'
import { openLmdbStore } from '../state/lmdb-store.ts'
import { holdFile } from '../storage/file-lock.ts'
import { derivingLock, keep, kept, openState, stateFolder, stillDeriving } from '../storage/storage.ts'
import type { Live } from './candidate.ts'
import { CandidateInProcess, type Side, type Surroundings } from './candidate-in-process.ts'
import type { Deriving, DerivingCalls, EngineCalls } from './child-protocol.ts'
import { Peer } from './rpc.ts'

/** So often it tells how far it is, in milliseconds. */
const progressMs = 100
/** Lines of a diff go out together, in pieces of about so many characters. */
const pieceLength = 64 * 1024
/** Without being told otherwise it never rests: which process has the processor is for the operating system to say. */
const shareUsual = 1
/** So long a call may have to wait. */
const sliceMsMax = 20
const triesMax = 100
const tryMs = 50
/** It says something so often at least, in milliseconds, to be known to be alive. */
const aliveMs = 1_000

let other: CandidateInProcess | undefined
let log: GrowingLog | undefined
/** Kept in mind until this process ends: what nobody knows of any more is collected, and lets go of its file then. */
let lock: ReturnType<typeof holdFile>

// The one of the engine says when to end, or is gone.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {})
process.on('disconnect', () => {
  if (other === undefined) process.exit()
  // Nothing may hold it up, such as a write of LMDB: what it has not saved is derived again.
  process.kill(process.pid, 'SIGKILL')
})

/** After each call the other side knows how far it is. */
function telling<Values extends unknown[], T>(act: (...values: Values) => T | Promise<T>) {
  return async (...values: Values): Promise<T> => {
    try {
      return await act(...values)
    } finally {
      tell()
    }
  }
}

const ours: DerivingCalls = {
  open: telling(open),
  start: telling(() => other!.start()),
  pause: telling(() => other!.pause()),
  share: telling((share) => {
    other!.share = share ?? shareUsual
  }),
  caughtUp: telling(() => other!.caughtUp()),
  level: telling((cut) => {
    log!.grow(cut.positions)
    return other!.level(cut)
  }),
  pass: telling((ends) => {
    log!.grow(ends)
    return other!.pass(ends)
  }),
  save: telling((isWhole) => other!.save(isWhole)),
  snapshot: telling((live) => other!.snapshot(live)),
  sumUp: telling(sumUp),
  stopSumUp: () => other!.stopSumUp(),
  correctAhead: telling((live, changed) => other!.correctAhead(live, changed)),
  correct: telling((live, changed, promotion) => other!.correct(live, changed, promotion)),
  release: telling(() => other!.release()),
  close: async () => {
    await other?.close(engineClosed())
    other = undefined
  },
}

const peer = new Peer<EngineCalls>(
  {
    // What cannot be sent any more nobody waits for.
    send: (message) => process.send!(message, undefined, undefined, () => {}),
    receive: (listener) => process.on('message', listener),
  },
  ours,
)

let told = ''
let toldAt = 0
function tell(): void {
  if (other === undefined) return
  const { progress } = other
  const text = JSON.stringify(progress)
  const now = performance.now()
  if (text === told && now - toldAt < aliveMs) return
  told = text
  toldAt = now
  void peer.call('progress', progress).catch(() => {})
}

/** Ends this process soon after its engine's, also while a derivation does not return. */
function endWith(engine: number): void {
  const watch = `setInterval(() => { if (process.ppid !== ${engine}) process.kill(process.pid, 'SIGKILL') }, 500)`
  // Windows tells the parent that a process was started by, be that there or not.
  if (process.platform !== 'win32') new Worker(watch, { eval: true }).unref()
}

async function open(deriving: Deriving): Promise<void> {
  const { directory, engine, share = shareUsual, checkpointRows, keptMs, checked } = deriving
  endWith(engine)
  // One that was started before may be about to end.
  for (let tries = 0; lock === undefined; tries++) {
    if (tries === triesMax) throw stillDeriving(directory)
    if (tries > 0) await pause(tryMs)
    lock = holdFile(join(directory, derivingLock))
  }
  const growing = await openGrowingLog(directory)
  log = growing
  let applied = 0
  const codeOf = (version: string) => keptCode((name) => kept(directory, name), version)
  const apps = new Map<string, App>()
  const appOf = async (version: string): Promise<App> => {
    const app = apps.get(version) ?? hostApp(await codeOf(version))
    apps.set(version, app)
    return app
  }
  const around: Surroundings = {
    generations: {
      log,
      openStore: (generation, collections, anew) => openState(directory, generation, collections, anew),
      programOf: async (version) => sandboxed(await codeOf(version)),
      checked,
    },
    hostAppOf: appOf,
    async cut(than) {
      const cut = await peer.call('cut', than)
      growing.grow(cut.positions)
      applied = recordsBefore(cut.positions)
      return cut
    },
    applied: () => applied,
    // Live work has a process of its own: here there is nothing to be waited for, but it rests as it was told.
    isBusy: () => (other?.share ?? share) < 1,
    next: () => new Promise(() => {}),
    sliceMsMax,
    checkpointRows,
    keptMs,
    diffShare: shareUsual,
    viewLive: async (live) => viewOf(directory, live, await appOf(live.version)),
    keep: (name, text) => keep(realDisk, directory, name, text),
    changed: tell,
  }
  // What it is told first is whether there is anything to derive.
  await around.cut()
  other = await CandidateInProcess.open(around, { ...deriving, share })
  setInterval(tell, progressMs)
}

async function viewOf(directory: string, { generation, version }: Live, app: App): Promise<Side> {
  const store = await openLmdbStore({
    directory: stateFolder(directory, generation),
    collections: comparedCollections(app),
    readOnly: true,
  })
  const { get, range, close } = store.view()
  return {
    app,
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

async function sumUp({ samples, lines }: Parameters<DerivingCalls['sumUp']>[0]): Promise<DiffSummary> {
  let piece: string[] = []
  let length = 0
  const send = () => {
    const full = piece
    piece = []
    length = 0
    return peer.call('lines', full)
  }
  const each = (line: string) => {
    piece.push(line)
    length += line.length
    return length < pieceLength ? undefined : send()
  }
  const summary = await other!.sumUp({
    ...(samples !== undefined && { samples }),
    ...(lines && { each }),
  })
  if (piece.length > 0) await send()
  return summary
}

import type { App } from '../app/index.ts'
import { checkSigner, publicPem, signerName } from '../audit/signing-key.ts'
import { orAborted } from '../clock.ts'
import { changeError, endAll, engineClosed } from '../failure.ts'
import { deriveApart } from '../generation/apart.ts'
import type { Codes } from '../generation/codes.ts'
import { Generation, type GenerationHost, savedCheckpoint } from '../generation/generation.ts'
import { baseOf, lineageOf, liveOf, versionOf } from '../log/control-history.ts'
import { appendControl, findControls } from '../log/controls.ts'
import type { Log } from '../log/log.ts'
import { everyPartition, isEmpty } from '../log/partitions.ts'
import { rulesNow } from '../log/record.ts'
import type { Checkpoint } from '../processor/checkpoint.ts'
import { type Manifest, readManifest } from '../reprocess/manifest.ts'
import type { ControlFact } from '../reprocess/reprocessing.ts'
import { Reprocessor } from '../reprocess/reprocessor.ts'
import { bundleApp } from '../sandbox/bundle.ts'
import type { DerivedAt } from '../sandbox/timed.ts'
import type { Storage } from '../storage/storage.ts'
import type { ViewsHost } from '../view/host.ts'
import { Views } from '../view/views.ts'
import { adoptState } from './adopt-state.ts'
import { Auditing } from './audit.ts'
import { HealthCheck } from './health.ts'
import { finishFilling, takeOver } from './new-code.ts'
import { heldBytesOf, RequestPath } from './request-path.ts'
import { RunningEngine } from './running-engine.ts'
import type { Settings } from './settings.ts'
import { becomeActive } from './standby.ts'
import { SteadyClock } from './steady-clock.ts'

/** Starts an engine: finds the live generation, recovers it, and finishes what was left undone. */
export async function startEngine<A extends App>(
  settings: Settings,
  codes: Codes,
  storage: Storage,
): Promise<RunningEngine<A>> {
  const { log } = storage
  const { onCodeChange, audit, check, clock, report, confirmClock, windowMs, derivationMs } = settings
  const generations: GenerationHost = {
    log,
    openStore: (generation, collections, anew) => storage.openStore(generation, collections, anew),
    programOf: (version) => codes.programOf(version),
    checked: check,
    derivationMs,
    heldBytes: heldBytesOf(settings.queueBytesMax),
  }
  let warm: Generation | undefined
  const { publish = [], newKey = false } = typeof audit === 'object' ? audit : {}
  /** All machines of a log in a carrier sign with one key. */
  const checkKey = async () => {
    if (!audit || storage.carried === undefined || storage.audit === undefined) return
    await checkSigner(storage.audit, await storage.kept(signerName), newKey)
  }
  await checkKey()
  if (storage.carried)
    warm = await becomeActive({ ...storage.carried, storage, codes, generations }, settings)
  if (!warm) await adoptState(generations, storage, settings)
  const steady = new SteadyClock(clock, report)
  const last = log.follow?.({ now: () => steady.logTime() }) ?? 0
  // Views have folded records up to the last one, in all partitions.
  steady.begin(last, confirmClock ? Number.POSITIVE_INFINITY : windowMs, settings.views ? last + 1 : last)
  const opening = openLive(generations, codes, storage, { warm, onCodeChange })
  const { generation, isOtherCode, manifest } = await opening.catch(async (error) => {
    await warm?.close()
    throw error
  })
  const auditing = new Auditing()
  let path: RequestPath | undefined
  let reprocessor: Reprocessor | undefined
  let views: Views | undefined
  try {
    ;({ path, reprocessor } = connect(settings, { codes, storage, generations, generation, steady }))
    if (audit) {
      // The first of them may have made it meanwhile.
      await checkKey()
      const signing = { publish: [publish].flat(), newKey }
      const { directory } = storage
      const rehearsal = () => {
        const { number, derivationMs, processor } = path!.live
        return { directory: directory!, generation: number, derivationMs, positions: processor.positions }
      }
      const given = { log, folder: storage.audit, clock, report, ...signing }
      await auditing.open(given, directory === undefined ? undefined : rehearsal)
      if (storage.carried) await storage.keep(signerName, publicPem(auditing.needed().publicKey))
    }
    if (storage.carried) storage.carried.note.frontier = () => path!.frontier
    const replayed = await path.start(afterDeath(storage, generation, check), settings)
    await reprocessor.finishCorrections()
    const beside = viewsHost(settings, { codes, storage, generations, path })
    const newCode = { path, codes, views: beside, watch: settings }
    await finishFilling(newCode)
    if (isOtherCode && onCodeChange === 'continue') await takeOver(newCode)
    await reprocessor.restore(manifest)
    if (isOtherCode && onCodeChange === 'reprocess') {
      const done = reprocess(reprocessor, path.live, codes.version)
      done.catch(() => {}) // Awaited below, unless the signal comes first.
      await orAborted(done, settings.signal)
      settings.signal?.throwIfAborted()
    }
    views = new Views(beside)
    if (settings.views) await views.use(await Promise.all(settings.views.map((each) => bundleApp(each))))
    path.startDelivery()
    path.tick()
    const health = new HealthCheck(storage, path, views, clock)
    const { alarms } = settings
    return new RunningEngine({ path, reprocessor, views, auditing, health, storage, replayed, alarms })
  } catch (error) {
    const why = engineClosed()
    path?.close(why)
    path?.stop(why)
    await endAll([
      () => views?.close(why),
      () => reprocessor?.close(why),
      () => auditing.close(),
      () => (path?.live ?? generation).close(),
    ]).catch(() => {})
    throw error
  }
}

/** How to derive the tail of the log after a process that died without a word. */
function afterDeath({ run, directory, log }: Storage, live: Generation, checked: boolean) {
  if (run?.died !== true || directory === undefined) return {}
  return {
    run,
    async deriveApart(at: DerivedAt) {
      const ends = await Promise.all(everyPartition(log).map((partition) => log.end(partition)))
      const { program, lineage, derivationMs } = live
      return deriveApart({ directory, lineage, version: program.version, ends, at, checked, derivationMs })
    },
  }
}

/** The services for what is folded beside a live generation. */
function viewsHost(
  { clock, report, checkpointRows }: Settings,
  parts: {
    readonly codes: Codes
    readonly storage: Storage
    readonly generations: GenerationHost
    readonly path: RequestPath
  },
): ViewsHost {
  const { path, ...given } = parts
  return {
    ...given,
    clock,
    report,
    checkpointRows,
    live: () => path.settled(),
    frontier: () => path.frontier,
    next: () => path.feed.next(),
    isBusy: () => path.load.inFlight > 0,
  }
}

/** Makes the parts of an engine, and connects them with each other. */
function connect(
  settings: Settings,
  given: {
    readonly codes: Codes
    readonly storage: Storage
    readonly generations: GenerationHost
    readonly generation: Generation
    readonly steady: SteadyClock
  },
): { path: RequestPath; reprocessor: Reprocessor } {
  const { codes, storage, generations, generation: live, steady } = given
  const { log, tries: notes } = storage
  const { clock, checkpointRows, report } = settings
  const { version } = codes
  const missingCorrections = (partition: number) => reprocessor.missingCorrections(partition)
  const path = new RequestPath(live, {
    ...{ ...settings, log, version, steady, notes, missingCorrections },
    received: (identity, stored) => reprocessor.received(identity, stored),
  })
  const reprocessor = new Reprocessor(
    { log, storage, codes, generations, live },
    {
      clock,
      checkpointRows,
      next: () => path.feed.next(),
      settled: () => path.settled(),
      isBusy: () => path.load.inFlight > 0,
      lowWatermark: () => path.lowWatermark,
      quiesce: (act) => path.quiesce(act),
      stopDelivery: () => path.delivery.stop(),
      startDelivery: () => path.startDelivery(),
      promoted: () => path.switchTo(reprocessor.live),
      write: (partition, record, bytes) => path.write(partition, { record, bytes }),
      written: (partition, record, bytes) => path.written(partition, { record, bytes }),
      idle: () => path.idle(),
      halt: (error) => path.halt(error),
      closed: () => path.closed.reason,
      report,
    },
  )
  return { path, reprocessor }
}

/**
 * Finds the live generation and the version of its code, and opens it. The log decides; the manifest is only
 * a hint.
 * @param given.warm what a standby has derived: it goes on, unless another generation is live
 */
async function openLive(
  generations: GenerationHost,
  codes: Codes,
  storage: Storage,
  given: {
    readonly warm: Generation | undefined
    readonly onCodeChange: Settings['onCodeChange']
  },
): Promise<{ generation: Generation; isOtherCode: boolean; manifest: Manifest }> {
  const { log } = generations
  const { warm, onCodeChange } = given
  const manifest = await readManifest((name) => storage.kept(name))
  const number = warm?.number ?? manifest.live
  const hinted = warm ? derivedBy(warm) : await savedCheckpoint(generations, number)
  const history = await controlsOf(log, hinted)
  const live = liveOf(history)
  const saved = live === number ? hinted : await savedCheckpoint(generations, live)
  const version = versionOf(history, live) ?? saved?.version ?? codes.version
  if (history.length === 0 && saved === undefined && (await isEmpty(log))) {
    const control = { type: 'version' as const, number: 0, version, rules: rulesNow }
    await appendControl(log, { generation: 0, control }, everyPartition(log))
  }
  const isOtherCode = version !== codes.version
  if (isOtherCode && onCodeChange === 'refuse') throw codeChanged(version, codes.version)
  if (warm?.number === live) return { generation: warm, isOtherCode, manifest }
  await warm?.close()
  const base = baseOf(history, live) ?? version
  const generation = await Generation.open(generations, lineageOf(history, live), () => codes.programOf(base))
  return { generation, isOtherCode, manifest }
}

type Derived = Pick<Checkpoint, 'version' | 'positions' | 'history'>

function derivedBy({ program, processor: { positions, history } }: Generation): Derived {
  return { version: program.version, positions, history }
}

/** All control records of a log. Finishes one that an earlier process did not. */
async function controlsOf(log: Log, saved: Derived | undefined): Promise<readonly ControlFact[]> {
  const known = saved?.history ?? []
  const from = saved?.positions ?? everyPartition(log).map(() => 0)
  let found = await findControls(log, from)
  if (found.unfinished) {
    await appendControl(log, found.unfinished.record, found.unfinished.missing)
    found = await findControls(log, from)
  }
  return [...known, ...found.facts.filter(({ number }) => number >= known.length)]
}

/** `onCodeChange: 'reprocess'`: derives everything again by the given code, and promotes that. */
async function reprocess(reprocessing: Reprocessor, live: Generation, version: string): Promise<void> {
  const status = await reprocessing.status()
  if (status !== undefined && status.version !== version) await reprocessing.discard()
  if (status?.version !== version) await reprocessing.start({ version }, { share: 1 })
  else if (status.state === 'paused' || status.state === 'failed') await reprocessing.resume()
  const { sha256: diff } = await reprocessing.diff()
  const requestId = `code-change-${live.processor.history.length}-${version.slice(0, 12)}`
  await reprocessing.promote({ diff, note: 'onCodeChange: reprocess' }, { requestId })
}

const codeChanged = (before: string, now: string) =>
  changeError(
    'code-changed',
    `The tables are derived by version ${before.slice(0, 12)} of the app's code, and this is version ` +
      `${now.slice(0, 12)}. Nothing was changed. ` +
      "`onCodeChange: 'continue'` (`--on-code-change continue`) lets the new code derive what follows. To " +
      'derive the past again as well, start the old code and run `hence reprocess run`, which shows the ' +
      "differences before anything changes; `'reprocess'` derives and promotes it without showing them.",
  )

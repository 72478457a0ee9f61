import { setImmediate as nextTurn } from 'node:timers/promises'
import { isMainThread, MessageChannel, type MessagePort, Worker } from 'node:worker_threads'

/**
 * Ends code that runs too long, wherever it is: loops, regular expressions, and code that catches everything.
 * A thread watches this one, and terminates its JavaScript through the inspector; no `finally` runs, and no
 * `catch` gets an error. So the code runs in a turn of the event loop of its own, where nothing else can be
 * lost: a message of a port that has one listener. A watched run costs one or two microseconds, where a timed
 * call of `node:vm` costs a hundred. Time counts while this process gets a processor, since a ruling on a
 * record is for ever, and a machine that is busy, suspended or moved is not the code's fault.
 *
 * Shared with the thread:
 *
 *   state   0 idle, 1 running, 2 being terminated
 *   run     counts the runs
 *   limit   of the present run, in milliseconds
 *   asleep  1 while the thread waits for a message before it watches again
 */
const [state, run, limit, asleep] = [0, 1, 2, 3]
const [idle, running, terminated] = [0, 1, 2]

/** How often the thread looks, in milliseconds. */
const lookMs = 20
/** After so many looks without a new run the thread sleeps. */
const looksMax = 100

interface Job {
  readonly ms: number
  readonly act: () => unknown
  readonly resolve: (tookMs: number | undefined) => void
  readonly reject: (error: unknown) => void
}

const waiting: Job[] = []
let current: Job | undefined
let shared: Int32Array | undefined
let thread: Worker | undefined
let outbox: MessagePort | undefined
let inbox: MessagePort | undefined
let terminating: Promise<void> | undefined

/**
 * Acts in a turn of the event loop of its own, and ends it if it takes too long. Acts run in the order of the
 * calls.
 * @param ms how long it may take, in time of the processor; it may take some tens of milliseconds more
 * @returns how long it took, in milliseconds; undefined if it was ended
 * @throws what the act throws
 */
export function withinLimit(ms: number, act: () => unknown): Promise<number | undefined> {
  if (inbox === undefined) open()
  return new Promise((resolve, reject) => {
    waiting.push({ ms, act, resolve, reject })
    inbox!.ref()
    outbox!.postMessage(0)
  })
}

function open(): void {
  const { port1, port2 } = new MessageChannel()
  outbox = port1
  inbox = port2
  shared = new Int32Array(new SharedArrayBuffer(4 * 4))
  // The inspector reaches the main thread only: elsewhere, and without one, there is no limit.
  if (process.features.inspector && isMainThread) {
    thread = new Worker(threadCode, { eval: true, workerData: shared, execArgv: [], env: {} })
    thread.on('message', ended)
    // Then there is no limit any more; the engine goes on.
    thread.on('error', () => {})
    thread.unref()
  }
  port2.on('message', turn)
}

function turn(): void {
  // The job before was terminated, and the thread's message about it is still under way.
  if (current !== undefined) {
    ended()
    outbox!.postMessage(0)
    return
  }
  const job = waiting.shift()
  if (job === undefined) return
  current = job
  const began = performance.now()
  let outcome: () => void
  begin(job.ms)
  try {
    job.act()
    outcome = () => job.resolve(performance.now() - began)
  } catch (error) {
    outcome = () => job.reject(error)
  }
  // If the thread has begun to terminate this run, it must end here and not in what comes next.
  while (Atomics.compareExchange(shared!, state, running, idle) === terminated);
  current = undefined
  if (waiting.length === 0) inbox!.unref()
  outcome()
}

function begin(ms: number): void {
  const words = shared!
  words[limit] = Math.min(Math.ceil(ms), 2 ** 31 - 1)
  Atomics.add(words, run, 1)
  Atomics.store(words, state, running)
  if (Atomics.load(words, asleep) === 1 && Atomics.compareExchange(words, asleep, 1, 0) === 1)
    thread?.postMessage(0)
}

/** The present run was terminated. */
function ended(): void {
  const job = current
  if (job === undefined || Atomics.load(shared!, state) !== terminated) return
  current = undefined
  Atomics.store(shared!, state, idle)
  if (waiting.length === 0) inbox!.unref()
  job.resolve(undefined)
  terminating = nextTurn().then(() => {
    terminating = undefined
  })
}

/** Resolves when whoever began a terminated run knows; until then nobody may read what it left. */
export function terminatedRun(): Promise<void> | undefined {
  ended()
  return terminating
}

/** The source of the thread, which is no module, so that it needs no file of its own. */
const threadCode = `
const { parentPort, workerData: words } = require('node:worker_threads')
const { Session } = require('node:inspector')
let last = -1, since = 0, cpu, quiet = 0, timer
const look = () => {
  const now = Atomics.load(words, ${run})
  if (now !== last) { last = now; since = performance.now(); cpu = process.cpuUsage(); quiet = 0; return }
  if (Atomics.load(words, ${state}) !== ${running}) {
    if (++quiet < ${looksMax}) return
    clearInterval(timer)
    timer = undefined
    Atomics.store(words, ${asleep}, 1)
    // A run may have begun just before.
    if (Atomics.load(words, ${run}) !== last && Atomics.compareExchange(words, ${asleep}, 1, 0) === 1) wake()
    return
  }
  if (performance.now() - since < words[${limit}]) return
  // A process that stood still, or got no processor, may have run for an instant only.
  const { user, system } = process.cpuUsage(cpu)
  if ((user + system) / 1000 < words[${limit}]) return
  if (Atomics.compareExchange(words, ${state}, ${running}, ${terminated}) !== ${running}) return
  const session = new Session()
  try {
    session.connectToMainThread()
    session.post('Runtime.terminateExecution', () => {
      session.disconnect()
      parentPort.postMessage(0)
    })
  } catch (error) {
    // Nothing was terminated, and the run must be able to end.
    Atomics.store(words, ${state}, ${running})
    throw error
  }
}
const wake = () => { quiet = 0; timer ??= setInterval(look, ${lookMs}) }
parentPort.on('message', wake)
wake()
`

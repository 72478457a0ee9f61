import { Worker } from 'node:worker_threads'

/** A world takes seconds; one that takes minutes does not end. */
const limitMs = 240_000

// In a thread of its own: what does not end may be a loop of this one.
const source = `
  const { parentPort, workerData } = require('node:worker_threads')
  const { writeSync } = require('node:fs')
  let timer
  parentPort.on('message', (what) => {
    clearTimeout(timer)
    timer = what && setTimeout(() => {
      writeSync(2, what + ' does not end: it runs for more than ' + workerData / 1000 + ' s.\\n')
      process.kill(process.pid, 'SIGKILL')
    }, workerData)
  })`

const worker = new Worker(source, { eval: true, execArgv: [], workerData: limitMs })
worker.unref()

/** Runs something; if it does not end, this process does, and says what it was. */
export async function watched<T>(what: string, run: () => Promise<T>): Promise<T> {
  worker.postMessage(what)
  try {
    return await run()
  } finally {
    worker.postMessage(undefined)
  }
}

/** The main module of the thread that checks the file of a large store; `checkLmdbStore` starts it. */
import { setTimeout as pause } from 'node:timers/promises'
import { parentPort, workerData } from 'node:worker_threads'
import { LmdbFile, Useless } from './lmdb-file.ts'

const port = parentPort!
const file = LmdbFile.open(workerData)
let began = performance.now()
try {
  const format = await file?.check(async (done) => {
    port.postMessage({ done })
    // Half of the time is for others.
    await pause(performance.now() - began)
    began = performance.now()
  })
  port.postMessage({ format })
} catch (error) {
  if (!(error instanceof Useless)) throw error
  port.postMessage({ damage: error.message })
}

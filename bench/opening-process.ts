/** Opens the engine of a directory, tells how that went, and closes it again. */
import { createEngine } from 'hence'
import app from './app.ts'
import { tellParent } from './parent.ts'

export interface Opening {
  /** From the start of the process until the engine took requests, in seconds. */
  readonly readySeconds: number
  /** The part of it that `createEngine` took. */
  readonly openSeconds: number
  readonly records: number
  readonly replayed: number
  /** The most memory that was resident, in bytes. */
  readonly residentBytesMax: number
}

const startedAt = performance.now()
const engine = await createEngine({ app, module: import.meta.resolve('./app.ts'), data: process.argv[2]! })
const readyAt = performance.now()
const { applied, replayed } = engine.stats()
const opening: Opening = {
  readySeconds: readyAt / 1000,
  openSeconds: (readyAt - startedAt) / 1000,
  records: applied.reduce((sum, count) => sum + count, 0),
  replayed,
  residentBytesMax: process.resourceUsage().maxRSS * 1024,
}
await engine.close()
tellParent(opening)

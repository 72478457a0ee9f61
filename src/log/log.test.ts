import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { logConformance } from '../../test/log-conformance.ts'
import { openFileLog } from './file-log/file-log.ts'
import { memoryLog } from './memory-log.ts'

const places: string[] = []
after(() => Promise.all(places.map((place) => rm(place, { recursive: true }))))

async function newPlace(): Promise<string> {
  const place = await mkdtemp(join(tmpdir(), 'hence-log-'))
  places.push(place)
  return place
}

logConformance('memory log', {
  durable: false,
  newPlace: async () => '',
  open: async (_, options) => memoryLog(options),
})

logConformance('file log', {
  durable: true,
  newPlace,
  open: (directory, options) => openFileLog({ directory, ...options }),
})

logConformance('file log with small segments, sealed after every commit', {
  durable: true,
  newPlace,
  open: (directory, options) => openFileLog({ directory, ...options, segmentBytes: 2048, sealAfterMs: 0 }),
})

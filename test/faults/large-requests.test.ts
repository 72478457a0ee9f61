import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { crashAt } from '../crash-points.ts'

// Rows and effects of 0.9 MB, many more than the heap holds: a checkpoint is due after so many bytes too.

const app = import.meta.resolve('../apps/large-rows.ts')
const script = fileURLToPath(import.meta.resolve('./large-requests-process.ts'))
const heapMb = 160
const count = 250
/** With buffers, which are outside the heap. */
const peakMbMax = 400

interface Ended {
  readonly applied: number
  readonly digest: string
  readonly peakMb: number
}

/** Runs the process until it kills itself. */
function run(data: string, type: string, requests: number): Promise<Ended> {
  const args = [
    '-C',
    'hence-source',
    `--max-old-space-size=${heapMb}`,
    script,
    app,
    data,
    type,
    `${requests}`,
  ]
  return new Promise((resolve, reject) => {
    execFile(process.execPath, args, (error, stdout, stderr) => {
      if (error?.signal !== 'SIGKILL' || stdout === '') reject(new Error(`It ended early: ${stderr}`))
      else resolve(JSON.parse(stdout))
    })
  })
}

for (const type of ['write', 'send']) {
  const claim = `${count} requests that "${type}" 0.9 MB each pass through a heap of ${heapMb} MB`
  test(crashAt('log sealed', claim), async (t) => {
    const data = await mkdtemp(join(tmpdir(), 'hence-large-'))
    t.after(() => rm(data, { recursive: true, force: true }))
    const first = await run(data, type, count)
    assert.equal(first.applied, 1 + count)
    // A start derives what the last checkpoint lacks; one without state derives everything.
    const second = await run(data, type, 0)
    await rm(join(data, 'state'), { recursive: true })
    const third = await run(data, type, 0)
    assert.deepEqual([second.digest, third.digest], [first.digest, first.digest])
    assert.ok(first.peakMb < peakMbMax, `${first.peakMb} MB`)
  })
}

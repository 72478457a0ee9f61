import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { noTracing, traced } from './strace.ts'

// The write of a header page fails, after which LMDB begins no transaction any more (MDB_PANIC); and a sync.
for (const inject of [
  'pwrite64:error=ENOSPC:when=8',
  'pwrite64:error=EIO:when=12',
  'fdatasync:error=EIO:when=6',
])
  test(`a store goes on after ${inject}`, { skip: noTracing }, async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'hence-state-'))
    t.after(() => rm(directory, { recursive: true }))
    const paths = [join(directory, 'data.mdb')]
    const child = traced('state-write-process.ts', [directory], {
      trace: 'pwrite64,fdatasync',
      paths,
      inject,
    })
    const [out, problems] = [text(child.stdout!), text(child.stderr!)]
    const [code] = await once(child, 'exit')
    assert.equal(code, 0, await problems)
    assert.deepEqual(JSON.parse(await out), { failed: 1 })
  })

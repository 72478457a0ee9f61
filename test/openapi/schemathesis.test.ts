import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { serveNotes } from '../server/serve.ts'

// Schemathesis sends what OpenAPI allows, and what it does not allow, and compares the answers with the
// document: pip install schemathesis.

const program = process.env['HENCE_SCHEMATHESIS'] ?? 'schemathesis'
const seconds = process.env['HENCE_SECONDS'] ?? '60'
const isInstalled = spawnSync(program, ['--version']).error === undefined
if (!isInstalled) console.error('OpenAPI is NOT tested here: schemathesis is not installed.')
const skip = isInstalled ? false : 'schemathesis is not installed'

test('the server keeps what its OpenAPI document says', { skip, timeout: 1_800_000 }, async (t) => {
  const { url, submit, reports } = await serveNotes(t, { partitions: 2 })
  // Its token is 0:0.
  assert.equal((await submit('admin', 'write', 'first', { owner: 'b', number: 0, text: 'x' })).status, 200)
  const folder = import.meta.dirname
  // It keeps its examples in the current folder.
  const cwd = await mkdtemp(join(tmpdir(), 'hence-openapi-'))
  t.after(() => rm(cwd, { recursive: true }))
  const args = ['--config-file', join(folder, 'schemathesis.toml'), 'run', `${url}/openapi.json`]
  const options = ['--max-time', seconds, '--header', 'Authorization: Test admin', '--no-color']
  const env = {
    ...process.env,
    SCHEMATHESIS_HOOKS: 'hooks',
    PYTHONPATH: folder,
    PYTHONDONTWRITEBYTECODE: '1',
  }
  const child = spawn(program, [...args, ...options], { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (text) => {
      output += text
    })
  }
  const [code] = (await once(child, 'close')) as [number | null]
  assert.equal(code, 0, output)
  assert.deepEqual(reports, [])
  t.diagnostic(/^ +\d+ generated.*$/m.exec(output)?.[0].trim() ?? '')
})

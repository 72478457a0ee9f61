import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { ScriptCache } from './script-cache.ts'

test('a script is made once, anew in another way or if its file is damaged, and old ones are removed', () => {
  const home = mkdtempSync(join(tmpdir(), 'hence-scripts-'))
  const folder = join(home, 'cache')
  let made = 0
  const doubled = (code: string, how = 'twice', at: string | undefined = folder) =>
    new ScriptCache(at).made(code, how, (text) => {
      made++
      return `${text}${text}`
    })
  assert.equal(doubled('a\n'), 'a\na\n')
  assert.equal(doubled('a\n'), 'a\na\n')
  assert.equal(made, 1)
  doubled('a\n', 'in another way')
  assert.equal(made, 2)
  for (const name of readdirSync(folder)) {
    const text = readFileSync(join(folder, name), 'utf8')
    writeFileSync(join(folder, name), text.slice(0, -1))
  }
  assert.equal(doubled('a\n'), 'a\na\n')
  assert.equal(made, 3)
  assert.equal(doubled('a\n'), 'a\na\n')
  assert.equal(made, 3)
  for (let n = 0; n < 300; n++) doubled(`${n}`)
  assert.equal(readdirSync(folder).length, 256)
  // A folder that cannot be made.
  writeFileSync(join(home, 'file'), '')
  assert.equal(doubled('b', 'twice', join(home, 'file', 'cache')), 'bb')
  rmSync(home, { recursive: true })
})

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { promisify } from 'node:util'

test('a process that cannot be started for want of handles is an error, and ends nobody', async () => {
  const script = `
    import fs from 'node:fs'
    import { runApart } from ${JSON.stringify(import.meta.resolve('./apart.ts'))}
    import { lockDirectory } from ${JSON.stringify(import.meta.resolve('../storage/directory-lock.ts'))}
    const { setTimeout: pause } = await import('node:timers/promises')
    const folder = fs.mkdtempSync('/tmp/hence-handles-')
    const open = []
    try { for (;;) open.push(fs.openSync('/dev/null')) } catch {}
    const shown = (error) => fs.writeSync(1, error.message + '\\n')
    await runApart('none', {}, []).catch(shown)
    for (let free = 1; free < 12; free++) {
      fs.closeSync(open.pop())
      await lockDirectory(folder, {}).then((lock) => lock.release(), shown)
      await pause(5)
    }
    for (const each of open) fs.closeSync(each)
    fs.rmSync(folder, { recursive: true })`
  const args = ['-C', 'hence-source', '--input-type=module', '-e', script]
  const quoted = [process.execPath, ...args].map((arg) => `'${arg.replaceAll("'", `'\\''`)}'`).join(' ')
  const { stdout } = await promisify(execFile)('sh', ['-c', `ulimit -n 64; exec ${quoted}`])
  const lines = stdout.trim().split('\n')
  assert.match(lines[0]!, /EMFILE/)
  assert.ok(lines.length > 3, stdout)
  for (const line of lines) assert.match(line, /EMFILE|cannot be used/)
})

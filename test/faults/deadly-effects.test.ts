import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

// A handler that ends the process would make a service manager start it again and again. Worse than a dead
// letter would be that no other effect is delivered any more.

const { NODE_TEST_CONTEXT: _, ...env } = process.env

test('an effect whose handler ends the process is a dead letter after its last try', async () => {
  const home = await mkdtemp(join(tmpdir(), 'hence-deadly-'))
  const data = join(home, 'data')
  const notes = ['fine-1', 'deadly-1', 'fine-2', 'deadly-2', 'fine-3']
  const run = () => {
    const program = join(import.meta.dirname, 'deadly-process.ts')
    const args = ['-C', 'hence-source', program, data, ...notes]
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', env })
    return {
      status,
      stderr,
      lines: stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
    }
  }
  try {
    const lives = []
    do lives.push(run())
    while (lives.at(-1)!.status === 9 && lives.length < 20)
    const { status, lines, stderr } = lives.at(-1)!
    assert.equal(status, 0, stderr)
    const { done, dead } = lines.find((line) => 'done' in line)!
    assert.equal(done, 3)
    const error = 'the process ended while it was tried'
    assert.deepEqual(
      dead.sort((a: { input: { text: string } }, b: typeof a) => (a.input.text < b.input.text ? -1 : 1)),
      ['deadly-1 0', 'deadly-2 0'].map((text) => ({ input: { text }, tries: 3, error })),
    )
    // Each of the two ended the process three times, and both may have been under way at one of its ends.
    assert.ok(lives.length <= 7, `${lives.length} processes`)
    const tried = lives.flatMap(({ lines }) => lines).filter((line) => line.tried?.startsWith('deadly'))
    assert.ok(tried.every(({ attempt }) => attempt <= 3))
    // Nothing is remembered of effects that have ended.
    assert.equal(await readFile(join(data, 'state/tries'), 'utf8').then(endedOnly), '')
  } finally {
    await rm(home, { recursive: true })
  }
})

/** The lines of effects that have not ended. */
function endedOnly(text: string): string {
  const last = new Map(
    text
      .trim()
      .split('\n')
      .map((line) => [line.split(' ')[0], line]),
  )
  return [...last.values()].filter((line) => line !== '' && !line.includes(' 0 ')).join('\n')
}

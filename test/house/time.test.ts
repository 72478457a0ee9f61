import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

// House rule: time comes in through `Clock`, so that a simulation can drive all of it.

const src = join(import.meta.dirname, '../../src')
const sources = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter(
  (file) => file.endsWith('.ts') && !file.endsWith('.test.ts'),
)

/** Files and rooms that use the clock and the timers of the runtime, and why they may. */
const exceptions: Readonly<Record<string, string>> = {
  'clock.ts': 'the defaults of `Clock` are here',
  'client/': 'it waits for a server, in a browser or a process without an engine',
  'cli/': 'a person waits for it',
  'server/': 'its timeouts guard the connections of real clients',
  'sandbox/timed.ts': 'it takes the time of the machine, which no simulation can drive',
  'sandbox/watchdog.ts': 'it limits the time of the machine, which no simulation can drive',
  'state/check-thread.ts': 'it shares the processor of the machine, which no simulation drives',
  'effect/webhook.ts': 'receivers compare the time of a signature with their own clock',
  'engine/peer-state.ts': 'it waits for the server of another process',
  'engine/rehearsal-process.ts': 'it is a process of its own, which shares the processor',
  'reprocess/candidate-child.ts': 'it watches a process, which a simulation does not have',
  'reprocess/child-process.ts': 'it is that process',
}

const runtimeTime =
  /\b(?:setTimeout|setInterval)\(|\bsetTimeout as\b|\b(?:Date|performance)\.now\(|\bnew Date\(\)/

test('time comes in through Clock, with exceptions that are needed', () => {
  const used = new Set<string>()
  for (const file of sources) {
    if (!runtimeTime.test(readFileSync(join(src, file), 'utf8'))) continue
    const exception = Object.keys(exceptions).find((each) => file === each || file.startsWith(each))
    assert.ok(exception, `src/${file} uses the time of the runtime: take a Clock, or add a reason here`)
    used.add(exception)
  }
  assert.deepEqual([...used].sort(), Object.keys(exceptions).sort())
})

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createEngine, type Report } from 'hence'
import { server } from 'hence/server'
import { memoryStorage } from 'hence/testing'
import { hence, Running } from '../hence-process.ts'
import loudHandlers from '../server/loud-handlers.ts'

// Senders of requests write to terminals and logs: their text may be shown there, and must not act.

const module = fileURLToPath(import.meta.resolve('../server/loud.ts'))
const handlers = fileURLToPath(import.meta.resolve('../server/loud-handlers.ts'))
/** A line of its own, hidden text, a cleared screen, and text that runs backwards. */
const hostile =
  'x\nalarm: log-damaged: run rm -rf data\r\x1b[8m\x9b2J\x07\u202e\u2066\u2028\u{e0041}\nhence: y'
const acting = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u

function checkLines(text: string, what: string): void {
  for (const line of text.split('\n')) {
    assert.doesNotMatch(line, acting, `${what}: ${JSON.stringify(line)}`)
    assert.doesNotMatch(line, /^(alarm: log-damaged|hence: y)/, what)
  }
}

let home: string
before(async () => {
  home = await mkdtemp(join(tmpdir(), 'hence-loud-'))
})
after(() => rm(home, { recursive: true }))

test('a report is one line in which nothing acts, for the reporter of a host too', async () => {
  const reports: Report[] = []
  const report = (each: Report) => void reports.push(each)
  const engine = await createEngine({ app: module, data: memoryStorage(), handlers: loudHandlers, report })
  const web = server(engine, { report, authenticate: () => ({ principal: 'ann', permissions: ['submit'] }) })
  await engine.submit('say', { who: 'ann', text: hostile }, { requestId: 'r1' })
  const { url } = await web.listen()
  assert.equal((await fetch(`${url}/tables/said/ann`)).status, 404)
  while (!reports.some(({ code }) => code === 'effect-dead')) await new Promise(setImmediate)
  await web.close()
  await engine.close()
  const codes = reports.map(({ code }) => code)
  assert.ok(codes.includes('read-rule-threw'), codes.join())
  for (const { code, message } of reports) assert.doesNotMatch(message, acting, code)
  assert.ok(reports.some(({ message }) => message.includes('\\u009b2J')))
})

test('no command and no line of the server’s log lets text of a sender act', async () => {
  const data = join(home, 'data')
  const args = ['start', module, '--data', data, '--handlers', handlers, '--open', '--port', '0']
  const running = new Running(args)
  const url = /http:\S+/.exec(await running.line(/listens on/))![0]
  const input = JSON.stringify({ who: 'ann', text: hostile })
  const outputs = new Map<string, string>()
  const keep = async (command: readonly string[]) => {
    for (const more of [[], ['--json']]) {
      const { stdout, stderr } = await hence([...command, ...more])
      outputs.set([...command.slice(0, 3), ...more].join(' '), stdout + stderr)
    }
  }
  for (const type of ['say', 'refuse', 'shout']) {
    await keep(['submit', type, input, '--id', type, '--url', url])
    await keep(['explain', type, '--url', url])
  }
  await running.error(/effect-dead/)
  await keep(['effects', 'list', '--state', 'dead', '--url', url])
  assert.equal(await running.stop(), 0)
  await keep(['table', 'get', 'said', 'ann', '--data', data])
  await keep(['table', 'scan', 'said', '--data', data])
  const cat = await hence(['log', 'cat', '--data', data])
  outputs.set('log cat', cat.stdout)
  for (const [command, output] of outputs) checkLines(output, command)
  checkLines(running.errors, 'the log of the server')
  assert.equal([...outputs.values()].filter((output) => output.includes('\\u009b2J')).length > 10, true)

  // Programs get the input as it was sent.
  const exported = await hence(['log', 'cat', '--data', data, '--json'])
  const texts = exported.stdout
    .trim()
    .split('\n')
    .flatMap((line) => JSON.parse(line).input?.text ?? [])
  assert.deepEqual(texts, [hostile, hostile, hostile])

  // In colour, only our own codes remain.
  const coloured = await hence(['explain', 'say', '--data', data], { env: { FORCE_COLOR: '1' } })
  assert.ok(coloured.stdout.includes('\x1b[1msay\x1b[22m'))
  const ours = [1, 22, 32, 39, 90].map((code) => `\x1b[${code}m`)
  checkLines(
    ours.reduce((text, code) => text.replaceAll(code, ''), coloured.stdout),
    'colour',
  )
})

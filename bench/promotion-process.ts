/**
 * Derives everything again with code whose every row and outcome differs, and promotes it while clients send
 * new requests.
 */
import { createHash } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { type App, type AppBundle, createEngine, type Engine } from 'hence'
import { reportToParent } from './parent.ts'

export interface Promoted {
  readonly differences: number
  readonly outcomes: number
  /** The longest that a request took: before the promotion, and until it had ended. */
  readonly longestBeforeMs: number
  readonly longestMs: number
  readonly seconds: number
}

/** Each request puts three rows. */
function code(version: number): AppBundle {
  const code = `
    const { app, scopes } = require('hence')
    const any = { '~standard': { version: 1, vendor: 'bench', validate: (value) => ({ value }) } }
    const [account] = scopes('account')
    const rows = account.table('rows', { key: ['number'], value: any })
    const put = account.request('put', {
      input: any,
      key: ({ number }) => 'account-' + number,
      derive(tx, { number }) {
        for (const i of [0, 1, 2]) tx.put(rows, i, { number, version: ${version} })
        return { version: ${version} }
      },
    })
    module.exports.default = app('promoted', { requests: [put], tables: [rows] })`
  return { code, hash: createHash('sha256').update(code).digest('hex'), files: [] } as unknown as AppBundle
}

const [data, countText] = process.argv.slice(2)
const count = Number(countText)
const engine = (await createEngine({ app: code(1), data: data! } as never)) as Engine<App>
const send = (number: number) => engine.submit('put', { number } as never, { requestId: `request-${number}` })
for (let from = 0; from < count; from += 1_024)
  await Promise.all(Array.from({ length: Math.min(1_024, count - from) }, (_, i) => send(from + i)))
await engine.reprocessing.start({ app: code(2) })
await engine.reprocessing.caughtUp()
const { sha256: diff, differences } = await engine.reprocessing.diff()
if (differences !== 4 * count) throw new Error(`${differences} differences, not ${4 * count}.`)

let next = count
let isOver = false
let longestMs = 0
const client = async () => {
  while (!isOver) {
    const sentAt = performance.now()
    await send(next++)
    longestMs = Math.max(longestMs, performance.now() - sentAt)
    await pause(5)
  }
}
const clients = Array.from({ length: 4 }, client)
await pause(500)
const longestBeforeMs = longestMs
longestMs = 0
const startedAt = performance.now()
const { corrections } = await engine.reprocessing.promote({ diff }, { requestId: 'promotion' })
const seconds = (performance.now() - startedAt) / 1_000
isOver = true
await Promise.all(clients)
await engine.close()
const result: Promoted = {
  differences,
  outcomes: corrections.outcome,
  longestBeforeMs,
  longestMs,
  seconds,
}
reportToParent(result)

import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { randomFrom } from '../random.ts'
import { accountsOf } from './bank.ts'
import { BankClient, type Kill } from './bank-client.ts'
import { Ledger, readLedger } from './ledger.ts'

// The engine's process is killed again and again while requests are in flight; this process is its client and
// keeps a durable ledger of what it was told. Worse than anything is an answer that does not hold; next a
// request that is done twice; then tables that the answers do not explain.

const kills = Number(process.env.HENCE_KILLS ?? 50)
const seed = Number(process.env.HENCE_SEED ?? randomInt(2 ** 31))

test(`${kills} kills: nothing acknowledged is lost, nothing happens twice, every retry gets the first reply`, async (context) => {
  context.diagnostic(`HENCE_SEED=${seed} gives the same requests and the same moments, as far as time allows`)
  const directory = await mkdtemp(join(tmpdir(), 'hence-kill-'))
  context.after(() => rm(directory, { recursive: true, force: true }))
  const data = join(directory, 'data')
  const path = join(directory, 'ledger')
  const ledger = new Ledger(path)
  const random = randomFrom(seed)
  const client = new BankClient(data, ledger, random)

  for (let i = 0; i < kills; i++) {
    const kill: Kill =
      random() < 0.2
        ? { afterMs: random() * 500 }
        : { afterReplies: 1 + Math.floor(random() * 600), thenMs: random() * 4 }
    await client.until(kill)
  }
  const { accounts, digest, applied } = await client.settle()
  ledger.close()

  const decided = [...readLedger(path).values()].map(({ sent, reply }) => {
    assert.ok(reply, `${sent.id} was never answered`)
    return { sent, reply }
  })
  assert.equal(decided.length, client.figures.requests)
  const expected = accountsOf(decided)
  assert.deepEqual(Object.fromEntries(accounts), Object.fromEntries(expected))

  await rm(join(data, 'state'), { recursive: true })
  const anew = await client.settle()
  assert.equal(anew.digest, digest, 'the tables derived anew are others')
  assert.deepEqual(anew.applied, applied)

  const { figures } = client
  context.diagnostic(JSON.stringify({ kills, ...figures, records: applied.reduce((a, b) => a + b) }))
  assert.ok(figures.cutOff > kills, 'the kills came when little was in flight')
})

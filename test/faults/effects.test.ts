import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { SMTPServer } from 'smtp-server'
import { Webhook } from 'standardwebhooks'
import { crashAt } from '../crash-points.ts'
import { randomFrom } from '../random.ts'
import type { Order, Told } from './effects-process.ts'

// The engine runs in a separate process and is killed again and again while it delivers to receivers that
// misbehave in every way. The worst result would be an effect that is never done; then one done twice by a
// receiver that stores ids; then an e-mail that is sent again without need.

const kills = Number(process.env['HENCE_KILLS'] ?? 5)
const seed = Number(process.env['HENCE_SEED'] ?? randomInt(2 ** 31))
const random = randomFrom(seed)
const below = (limit: number) => Math.floor(random() * limit)
const secret = `whsec_${Buffer.from('what both sides know').toString('base64')}`

/** Carries out charges, stores their ids, and gives a proper answer only half of the time. */
class ChargeReceiver {
  readonly done = new Map<string, { readonly body: string; readonly receipt: string }>()
  readonly faults: string[] = []
  readonly counts = { refused: 0, hung: 0, late: 0, died: 0, again: 0, answered: 0 }
  tries = 0
  isWell = false
  readonly server = createServer(async (request, response) => {
    let body = ''
    try {
      for await (const chunk of request) body += chunk
    } catch {
      // The engine was killed while it was sending.
      return
    }
    this.tries++
    const headers = request.headers as Record<string, string>
    const id = headers['idempotency-key']!
    try {
      new Webhook(secret).verify(body, headers)
      assert.equal(headers['webhook-id'], id)
      const before = this.done.get(id)
      if (before) assert.equal(body, before.body)
    } catch (error) {
      this.faults.push(`${id}: ${error}`)
    }
    const way = this.isWell ? 1 : random()
    if (way < 0.15) {
      this.counts.refused++
      response.writeHead(500).end()
      return
    }
    if (way < 0.2) {
      this.counts.hung++
      return
    }
    // The receiver's transaction: the charge and its id together.
    if (this.done.has(id)) this.counts.again++
    else this.done.set(id, { body, receipt: `receipt ${this.done.size}` })
    const { receipt } = this.done.get(id)!
    const answer = () =>
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ receipt }))
    if (way < 0.25) {
      this.counts.late++
      request.on('close', answer)
    } else if (way < 0.4) {
      this.counts.died++
      request.socket.destroy()
    } else {
      this.counts.answered++
      answer()
    }
  })
}

interface Accepted {
  readonly messageId: string
  readonly text: string
  readonly at: number
  /** The number of the engine's process that sent it. */
  readonly life: number
  /** Whether the server acknowledged it. */
  readonly isTold: boolean
}

/**
 * A mail server that sometimes asks to retry later, and sometimes drops the connection after it accepted a
 * message.
 */
class MailServer {
  readonly accepted: Accepted[] = []
  life = 0
  isWell = false
  readonly counts = { refused: 0, died: 0 }
  readonly server = new SMTPServer({
    disabledCommands: ['STARTTLS', 'AUTH'],
    authOptional: true,
    onData: (stream, session, callback) => {
      let text = ''
      stream.on('data', (chunk) => {
        text += chunk
      })
      stream.on('end', () => {
        const way = this.isWell ? 1 : random()
        if (way < 0.1) {
          this.counts.refused++
          callback(Object.assign(new Error('later'), { responseCode: 451 }))
          return
        }
        const isTold = way >= 0.2
        const messageId = /^Message-ID: <(.*)>\r$/m.exec(text)![1]!
        this.accepted.push({ messageId, text, at: Date.now(), life: this.life, isTold })
        if (isTold) {
          callback()
        } else {
          this.counts.died++
          for (const connection of this.server.connections) {
            // biome-ignore lint/suspicious/noExplicitAny: the types leave out what a connection has.
            const { id, _socket } = connection as any
            if (id === session.id) _socket.destroy()
          }
        }
      })
      stream.on('error', () => {})
    },
  })
}

const name = crashAt(
  ['during start', 'delivery of effects'],
  `${kills} kills, no effect is lost, and none is done twice by a receiver that stores ids (HENCE_SEED=${seed})`,
)
test(name, { timeout: 300_000 }, async (t) => {
  const home = await mkdtemp(join(tmpdir(), 'hence-effects-'))
  const charges = new ChargeReceiver()
  const mails = new MailServer()
  mails.server.on('error', () => {})
  charges.server.listen(0, '127.0.0.1')
  mails.server.listen(0, '127.0.0.1')
  await Promise.all([charges.server, mails.server.server].map((each) => once(each, 'listening')))
  const portOf = (server: { address(): unknown }) => (server.address() as AddressInfo).port
  const urls = [
    `http://127.0.0.1:${portOf(charges.server)}/charges`,
    secret,
    `smtp://127.0.0.1:${portOf(mails.server.server)}`,
  ]
  let child: ChildProcess | undefined
  t.after(async () => {
    child?.kill('SIGKILL')
    charges.server.closeAllConnections()
    charges.server.close()
    await new Promise<void>((resolve) => mails.server.close(resolve))
    await rm(home, { recursive: true })
  })

  const start = async () => {
    const path = fileURLToPath(import.meta.resolve('./effects-process.ts'))
    const args = [join(home, 'data'), ...urls]
    child = fork(path, args, {
      execArgv: ['-C', 'hence-source'],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    const process = child
    const [told] = (await Promise.race([
      once(process, 'message'),
      once(process, 'exit').then(([code]) => assert.fail(`the engine did not start: ${code}`)),
    ])) as [Told]
    assert.equal(told.kind, 'ready')
    return process
  }
  const send = (process: ChildProcess, order: Order) => process.connected && process.send(order, () => {})
  const finish = async (process: ChildProcess) => {
    send(process, { kind: 'finish' })
    for (;;) {
      const [told] = (await once(process, 'message')) as [Told]
      if (told.kind === 'finished') return told
    }
  }

  /** Orders that were sent, and whether they were acknowledged. */
  const orders = new Map<string, { readonly sku: string; readonly cents: number; taken: boolean }>()
  for (let life = 0; life < kills; life++) {
    mails.life = life
    const process = await start()
    const killAt = below(40)
    let heard = 0
    const dying = Promise.withResolvers<void>()
    process.on('message', (told: Told) => {
      if (told.kind !== 'taken') return
      orders.get(told.order)!.taken = true
      // The kill comes between the record of an order and the end of its effects.
      if (++heard === killAt) setTimeout(dying.resolve, below(300))
    })
    if (killAt === 0) setTimeout(dying.resolve, below(300))
    for (const [order, { sku, cents, taken }] of orders) {
      if (!taken) send(process, { kind: 'place', order, sku, cents })
    }
    for (let i = 0; i < Math.max(killAt, 5); i++) {
      const order = `order-${orders.size}`
      const wish = { sku: `sku-${below(3)}-${life >> 2}`, cents: 1 + below(9_999) }
      orders.set(order, { ...wish, taken: false })
      send(process, { kind: 'place', order, ...wish })
    }
    await dying.promise
    process.kill('SIGKILL')
    await once(process, 'exit')
  }

  mails.life = kills
  let process = await start()
  for (const [order, { sku, cents, taken }] of orders) {
    if (!taken) send(process, { kind: 'place', order, sku, cents })
  }
  charges.isWell = true
  mails.isWell = true
  const finished = await finish(process)
  const exited = once(process, 'exit')
  send(process, { kind: 'close' })
  await exited

  assert.deepEqual(charges.faults, [])
  const of = (type: string) => finished.effects.filter((each) => each.type === type)
  assert.equal(finished.orders.length, orders.size)
  assert.ok(finished.effects.every(({ state }) => state === 'done'))

  // One charge for each order: the receiver has done exactly those that the engine has, with the same
  // content.
  assert.equal(of('charge').length, orders.size)
  assert.deepEqual(
    [...charges.done.keys()].sort(),
    of('charge')
      .map(({ id }) => id)
      .sort(),
  )
  for (const { id, input, result } of of('charge')) {
    const { body, receipt } = charges.done.get(id)!
    assert.deepEqual(JSON.parse(body).data, input)
    assert.equal((input as { cents: number }).cents, orders.get((input as { order: string }).order)!.cents)
    assert.deepEqual(result, { receipt })
  }

  // One apology for each victim, and at least one e-mail for each apology.
  const sorry = finished.orders.filter(({ value }) => value.state === 'sorry')
  assert.ok(sorry.length > kills, 'too few apologies were due')
  assert.equal(of('apology').length, sorry.length)
  assert.equal(finished.victims, sorry.length)
  const copies = Map.groupBy(mails.accepted, ({ messageId }) => messageId)
  assert.deepEqual(
    [...copies.keys()].sort(),
    of('apology')
      .map(({ id }) => `${id}@example.com`)
      .sort(),
  )
  let repeated = 0
  for (const { id, input, endedAt } of of('apology')) {
    const all = copies.get(`${id}@example.com`)!
    repeated += all.length - 1
    assert.equal(new Set(all.map(({ text }) => text)).size, 1, 'two copies of an e-mail differ')
    assert.match(all[0]!.text, new RegExp((input as { to: string }).to))
    for (const [i, { life, isTold, at }] of all.entries()) {
      assert.ok(at <= endedAt!, 'an e-mail was sent after its result was recorded')
      const isLast = i === all.length - 1
      assert.ok(isLast || !isTold || all[i + 1]!.life > life, 'an e-mail was sent again without need')
    }
  }

  // A derivation from offset 0 has the same digest, and sends nothing again.
  const { tries } = charges
  await rm(join(home, 'data/state'), { recursive: true })
  process = await start()
  assert.equal((await finish(process)).digest, finished.digest)
  process.kill('SIGKILL')
  await once(process, 'exit')
  assert.deepEqual([charges.tries, mails.accepted.length], [tries, [...copies.values()].flat().length])
  assert.ok(charges.counts.again > 0, 'no charge arrived twice, so this test shows nothing')
  t.diagnostic(
    `${orders.size} orders, ${charges.tries} tries of charges ${JSON.stringify(charges.counts)}; ` +
      `${sorry.length} apologies, ${repeated} copies ${JSON.stringify(mails.counts)}`,
  )
})

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { mkdtemp, readFile, rm, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { HenceError } from 'hence'
import { type KafkaLogOptions, kafkaLog } from 'hence/kafka'
import { carrierConformance } from 'hence/testing'
import type { Carrier, CarrierBatch } from '../../src/log/carrier.ts'
import { crashAt } from '../crash-points.ts'
import { processDuel } from '../faults/duel-processes.ts'
import { startBrokers } from '../kafka-brokers.ts'
import { randomFrom } from '../random.ts'

// A log on three real brokers, which are killed, stopped and robbed of their ends. By hand:
// npm run test:kafka.

const faults = Number(process.env['HENCE_KILLS'] ?? 20)
const directory = await mkdtemp(join(tmpdir(), 'hence-three-brokers-'))
const brokers = await startBrokers(3, directory)
after(async () => {
  await brokers.stop()
  await rm(directory, { recursive: true, force: true })
})

const addresses = brokers.all.map((broker) => broker.address)
const newTopic = () => `log-${randomUUID().slice(0, 8)}`
const open = (topic: string, options: Partial<KafkaLogOptions> = {}) =>
  kafkaLog({ brokers: addresses, topic, report: (report) => assert.fail(report.message), ...options })
const facts = { logId: 'c'.repeat(32), partitions: 2, segmentBytes: 1 << 20 }
const batch = (content: string): CarrierBatch => {
  return { bytes: Buffer.from(content), before: Buffer.alloc(32), hash: Buffer.alloc(32, 1), offset: 0 }
}

async function contents(carrier: Carrier): Promise<Map<number, string>> {
  const found = new Map<number, string>()
  for await (const { position, bytes } of carrier.read(0, 0)) found.set(position, String(bytes))
  return found
}

carrierConformance('the carrier in Kafka, on three brokers', {
  open: async (topic) => open(topic),
  newPlace: async () => newTopic(),
})

test(crashAt('Kafka append', 'each broker is killed in turn, so each leader moves'), async () => {
  const topic = newTopic()
  const carrier = open(topic, { timeoutMs: 20_000 })
  await carrier.facts(facts)
  const acknowledged = new Map<number, string>()
  let n = 0
  const append = async () => {
    const content = `batch ${n++}`
    try {
      acknowledged.set((await carrier.append(0, batch(content), 0))!, content)
    } catch (error) {
      assert.equal((error as HenceError).code, 'carrier-unreachable')
    }
  }
  for (const broker of brokers.all) {
    for (let each = 0; each < 20; each++) await append()
    await broker.kill('SIGKILL')
    for (let each = 0; each < 20; each++) await append()
    await broker.start()
  }
  assert.ok(acknowledged.size > 100, `${acknowledged.size}`)
  const reader = open(topic)
  await reader.facts()
  for (const each of [carrier, reader]) {
    const found = await contents(each)
    for (const [position, content] of acknowledged) assert.equal(found.get(position), content)
    await each.close()
  }
})

test(
  crashAt('Kafka append', 'with one broker of three nothing is acknowledged, and then it goes on'),
  async () => {
    const carrier = open(newTopic(), { timeoutMs: 4_000 })
    await carrier.facts(facts)
    const first = await carrier.append(0, batch('before'), 0)
    for (const broker of brokers.all.slice(1)) await broker.kill('SIGKILL')
    await assert.rejects(carrier.append(0, batch('meanwhile'), 1), (error) => {
      return error instanceof HenceError && error.code === 'carrier-unreachable'
    })
    for (const broker of brokers.all.slice(1)) await broker.start()
    let after: number | undefined
    while (after === undefined) after = await carrier.append(0, batch('after'), 1).catch(() => undefined)
    const found = await contents(carrier)
    assert.equal(found.get(first!), 'before')
    assert.equal(found.get(after), 'after')
    await carrier.close()
  },
)

test(crashAt('Kafka append', 'processes duel while brokers are killed and stopped'), async () => {
  const kafka = { topic: newTopic(), timeoutMs: 5_000 }
  const random = randomFrom(Date.now())
  let striking: Promise<void> | undefined
  const strike = async () => {
    const broker = brokers.all[Math.floor(random() * 3)]!
    if (random() < 0.5) {
      await broker.kill('SIGSTOP')
      await pause(random() * 8_000)
      await broker.kill('SIGCONT')
    } else {
      await broker.kill('SIGKILL')
      await pause(random() * 3_000)
      await broker.start()
      await pause(5_000)
    }
    striking = undefined
  }
  const figures = await processDuel({
    ...{ directory: join(directory, 'duel'), random, faults: faults * 10, acknowledged: faults * 100 },
    carriers: brokers.all.map((broker) => ({ kafka: { ...kafka, brokers: [broker.byLine, ...addresses] } })),
    fault() {
      for (const { line } of brokers.all) if (random() < 0.3) line.cut()
      striking ??= strike()
    },
    settled: () => striking,
  })
  console.log(figures)
})

test(
  crashAt('Kafka append', 'a tail that every replica has lost is refused by those who remember it'),
  async () => {
    const topic = newTopic()
    const carrier = open(topic)
    await carrier.facts(facts)
    for (let n = 0; n < 5; n++) await carrier.append(0, batch(`batch ${n}`), n)
    const replicas = brokers.all.map(({ data }) => join(data, `${topic}-0`, `${'0'.repeat(20)}.log`))
    for (const file of replicas) {
      while (!(await readFile(file).catch(() => '')).includes('batch 4')) await pause(100)
    }
    for (const broker of brokers.all) await broker.kill('SIGKILL')
    for (const file of replicas) await truncate(file, (await readFile(file)).indexOf('batch 3') - 10)
    await Promise.all(brokers.all.map((broker) => broker.start()))
    const other = open(topic, { timeoutMs: 30_000 })
    await other.facts()
    assert.equal((await contents(other)).size, 3)
    for (let n = 0; n < 4; n++) await other.append(0, batch(`other ${n}`), 3 + n)
    const lost = (error: unknown) => error instanceof HenceError && error.code === 'carrier-lost-records'
    await assert.rejects(contents(carrier), lost)
    await assert.rejects(carrier.append(0, batch('more'), 5), lost)
    await Promise.all([carrier.close(), other.close()])
  },
)

import assert from 'node:assert/strict'
import { pbkdf2Sync, randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { open as fsOpen, mkdtemp, readdir, readFile, rm, truncate } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { createServer } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import {
  Admin,
  addPartitionsToTxnV3,
  alterUserScramCredentialsV0,
  type Connection,
  ConnectionPool,
  endTxnV3,
  fetchV13,
  findCoordinatorV6,
  initProducerIdV4,
  listOffsetsV7,
  Producer,
  produceV9,
  ResponseError,
} from '@platformatic/kafka'
import {
  type App,
  createEngine,
  type Engine,
  HenceError,
  type LogMessage,
  type Report,
  type WithViews,
} from 'hence'
import { type KafkaLogOptions, kafkaLog, kafkaSink, kafkaSource } from 'hence/kafka'
import { carrierConformance, carrierDuel, carrierFailover, memoryStorage } from 'hence/testing'
import type * as airlineMade from '../../examples/airline/airline.ts'
import { fly } from '../../examples/airline/traffic.ts'
import { importAll } from '../../examples/retail/import.ts'
import { sample } from '../../examples/retail/sample.ts'
import type * as shopMade from '../../examples/retail/shop.ts'
import { KafkaClient } from '../../src/kafka/client.ts'
import type { Carrier, CarrierBatch, CarrierFacts } from '../../src/log/carrier.ts'
import type * as passbookMade from '../apps/passbook.ts'
import type { sales } from '../apps/sales.ts'
import type views from '../apps/sales-views.ts'
import { appsOf } from '../apps.ts'
import { crashAt } from '../crash-points.ts'
import { type Brokers, NoKafka, startBrokers } from '../kafka-brokers.ts'
import { randomFrom } from '../random.ts'
import { processDuel } from './duel-processes.ts'

type Airline = airlineMade.Airline
type Shop = shopMade.Shop
const airlines = appsOf<typeof airlineMade>(import.meta.resolve('../../examples/airline/airline.ts'))
const shops = appsOf<typeof shopMade>(import.meta.resolve('../../examples/retail/shop.ts'))

// A log on one real broker. Three brokers are in test/kafka, by hand.

const directory = await mkdtemp(join(tmpdir(), 'hence-kafka-'))
const brokers: Brokers | NoKafka = await startBrokers(1, directory).catch((error) => {
  if (error instanceof NoKafka) return error
  throw error
})
after(async () => {
  if (!(brokers instanceof NoKafka)) await brokers.stop()
  await rm(directory, { recursive: true, force: true })
})

if (brokers instanceof NoKafka) test(`a log in Kafka`, { skip: brokers.message }, () => {})
else suite(brokers)

function suite({ all: [broker] }: Brokers): void {
  const newTopic = () => `log-${randomUUID().slice(0, 8)}`
  const open = async (topic: string, options: Partial<KafkaLogOptions> = {}) =>
    kafkaLog({ brokers: [broker!.address], topic, oneBroker: true, report: () => {}, ...options })

  const made = { open, newPlace: async () => newTopic() }
  carrierConformance('the carrier in Kafka', made)
  carrierDuel('the carrier in Kafka', made, { duels: 2 })
  carrierFailover('the carrier in Kafka', made)

  /** Calls with a carrier of a new log, and with what opens further ones. */
  async function withLog(
    run: (
      carrier: Carrier,
      again: (options?: Partial<KafkaLogOptions>) => Promise<Carrier>,
      topic: string,
    ) => Promise<void>,
    options?: Partial<KafkaLogOptions>,
  ): Promise<void> {
    const opened: Carrier[] = []
    const topic = newTopic()
    const again = async (options?: Partial<KafkaLogOptions>) => {
      const carrier = await open(topic, options)
      opened.push(carrier)
      await carrier.facts(facts)
      return carrier
    }
    try {
      await run(await again(options), again, topic)
    } finally {
      for (const carrier of opened) await carrier.close()
    }
  }

  /** The file of the newest batches of a partition. */
  const segment = async (topic: string, partition: number) => {
    const folder = join(broker!.data, `${topic}-${partition}`)
    const files = (await readdir(folder)).filter((file) => file.endsWith('.log')).sort()
    return join(folder, files.at(-1)!)
  }

  test('a topic that would forget, or that lives on one disk, is refused with what it must be', async () => {
    const topic = newTopic()
    const admin = new Admin({ clientId: 'test', bootstrapBrokers: [broker!.address] })
    const carrier = await open(topic)
    const strict = await open(topic, { oneBroker: false })
    try {
      const forgets = [{ name: 'retention.ms', value: '86400000' }]
      await admin.createTopics({ topics: [topic], partitions: 3, replicas: 1, configs: forgets })
      await rejects(
        carrier.facts(facts),
        'carrier-unusable',
        /retention\.ms=-1 \(it is 86400000\), max\.message\.bytes=17825792 or more \(it is 1048588\), 2 partitions/,
      )
      await rejects(strict.facts(), 'carrier-unusable', /3 replicas \(there are 1\), min\.insync\.replicas=2/)
    } finally {
      await Promise.all([admin.close(), carrier.close(), strict.close()])
    }
  })

  test('a single broker is taken with a warning', async () => {
    const reports: Report[] = []
    const carrier = await open(newTopic(), { report: (report) => reports.push(report) })
    await carrier.facts(facts)
    await carrier.close()
    assert.equal(reports[0]!.code, 'log-not-replicated')
  })

  test('a topic that was removed, or made again, is refused', () =>
    withLog(async (_, again, topic) => {
      const admin = new Admin({ clientId: 'test', bootstrapBrokers: [broker!.address] })
      try {
        await admin.deleteTopics({ topics: [topic] })
        await rejects(again({ timeoutMs: 1_000 }), 'carrier-unusable', /was removed: it had the id/)
        await admin.createTopics({ topics: [topic], partitions: 2, replicas: 1 })
        await rejects(again(), 'carrier-unusable', /was removed and made again/)
      } finally {
        await admin.close()
      }
    }))

  test('a batch that the topic does not take is refused, and is not there', () =>
    withLog(async (carrier, again, topic) => {
      const admin = new Admin({ clientId: 'test', bootstrapBrokers: [broker!.address] })
      const configs = [{ name: 'max.message.bytes', value: '100000', configOperation: 0 as const }]
      try {
        await admin.incrementalAlterConfigs({
          resources: [{ resourceType: 2, resourceName: topic, configs }],
        })
      } finally {
        await admin.close()
      }
      await rejects(
        carrier.append(0, batch(Buffer.alloc(200_000)), 0),
        'carrier-unusable',
        /max\.message\.bytes/,
      )
      assert.deepEqual(await positions(carrier, 0), [])
      // 30 requests of 100 kB, written together, stopped an engine for good.
      await rejects(again(), 'carrier-unusable', /max\.message\.bytes=17825792 or more \(it is 100000\)/)
    }))

  test('records of others in the topic are left out, and damaged ones are not', () =>
    withLog(async (carrier, again, topic) => {
      const producer = new Producer({ clientId: 'test', bootstrapBrokers: [broker!.address] })
      const foreign = { topic, partition: 0, value: Buffer.from('of another program') }
      assert.equal(await carrier.append(0, batch('ours, no. 1'), 0), 0)
      await producer.send({ messages: [foreign as never], acks: -1 })
      await producer.close()
      assert.equal(await carrier.append(0, batch('ours, no. 2'), 1), 2)
      assert.deepEqual(await positions(carrier, 0), [0, 2])
      const file = await segment(topic, 0)
      const at = (await readFile(file)).indexOf('ours, no. 2')
      const handle = await fsOpen(file, 'r+')
      await handle.write('Ours', at)
      await handle.close()
      const message = /offset 2 of topic "log-\w+", partition 0 is damaged/
      await rejects(positions(await again(), 0), 'carrier-damaged', message)
    }))

  test('a line that is cut, refused and held costs answers, and never a batch', { timeout: 60_000 }, () =>
    withLog(
      async (carrier, again) => {
        const { line } = broker!
        const acknowledged = new Map<number, string>()
        const unsure = new Set<string>()
        const direct = await again({ brokers: [broker!.address] })
        const faults: Readonly<Record<number, () => void>> = {
          5: () => line.cut(),
          10: () => line.hold('answers'),
          15: () => line.hold(),
          20: () => line.refuse(),
        }
        for (let n = 0; n < 25; n++) {
          const appending = carrier.append(0, batch(`batch ${n}`), await direct.end(0))
          faults[n]?.()
          try {
            acknowledged.set((await appending)!, `batch ${n}`)
          } catch (error) {
            assert.equal((error as HenceError).code, 'carrier-unreachable')
            unsure.add(`batch ${n}`)
          }
          line.release()
        }
        assert.ok(unsure.size >= 3, `${unsure.size} were unsure`)
        for (const reader of [direct, carrier]) {
          const found = new Map<number, string>()
          for await (const { position, bytes } of reader.read(0, 0)) found.set(position, String(bytes))
          for (const [position, content] of acknowledged) assert.equal(found.get(position), content)
          for (const [position, content] of found) {
            assert.ok(acknowledged.get(position) === content || unsure.has(content), content)
          }
        }
        assert.equal(acknowledged.size + unsure.size, 25)
      },
      { brokers: [broker!.byLine], timeoutMs: 1_000 },
    ),
  )

  test(
    crashAt('Kafka append', 'a broker that is killed loses nothing, and carriers go on by themselves'),
    { timeout: 120_000 },
    () =>
      withLog(
        async (carrier, again) => {
          const acknowledged = new Map<number, string>()
          let n = 0
          const append = async () => {
            const content = `batch ${n++}`
            const position = await carrier.append(0, batch(content), 0)
            acknowledged.set(position!, content)
          }
          for (let each = 0; each < 20; each++) await append()
          const failing = append().catch(() => {})
          await broker!.kill('SIGKILL')
          await failing
          await rejects(append(), 'carrier-unreachable', /no answer for topic "log-\w+", partition 0/)
          await broker!.start()
          for (let each = 0; each < 20; each++) await untilReached(append)
          for (const reader of [carrier, await again()]) {
            const found = new Map<number, string>()
            for await (const { position, bytes } of reader.read(0, 0)) found.set(position, String(bytes))
            for (const [position, content] of acknowledged) assert.equal(found.get(position), content)
          }
        },
        { timeoutMs: 3_000 },
      ),
  )

  test('with TLS and a password: a log, and a clear error for each way not to get in', async () => {
    const [host, port] = broker!.address.split(':') as [string, string]
    const pool = new ConnectionPool('test')
    const [salt, iterations] = [randomBytes(16), 4_096]
    const saltedPassword = pbkdf2Sync('right', salt, iterations, 64, 'sha512')
    const user = { name: 'shop', mechanism: 2, iterations, salt, saltedPassword }
    const connection = await pool.get({ host, port: Number(port) })
    await alterUserScramCredentialsV0.api.async(connection, [], [user])
    await pool.close()

    const ca = await readFile(join(directory, 'certificate.pem'))
    const sasl = { mechanism: 'SCRAM-SHA-512', username: 'shop', password: 'right' } as const
    const safe = { brokers: [broker!.safe], tls: { ca }, sasl, timeoutMs: 3_000 }
    const topic = newTopic()
    for (const mechanism of ['SCRAM-SHA-512', 'PLAIN'] as const) {
      const carrier = await open(topic, { ...safe, sasl: { ...sasl, mechanism } })
      const facts = { logId: 'l', partitions: 1 }
      assert.deepEqual({ ...(await carrier.facts(facts as never)) }, facts)
      await carrier.close()
    }

    const refused = (options: Partial<KafkaLogOptions>, code: string, message: RegExp) =>
      assert.rejects(
        async () => {
          const carrier = await open(topic, { ...safe, ...options })
          await carrier.facts().finally(() => carrier.close())
        },
        { code, message },
      )
    const wrong = { ...sasl, password: 'wrong' }
    await refused({ sasl: wrong }, 'carrier-unusable', /authentication failed.*its password/)
    await refused({ sasl: { ...wrong, mechanism: 'PLAIN' } }, 'carrier-unusable', /its password/)
    await refused({ sasl: { ...sasl, mechanism: 'SCRAM-SHA-256' } }, 'carrier-unusable', /the mechanism/)
    await refused({ tls: {} }, 'carrier-unusable', /self-signed certificate.*`tls\.ca`/)
    const other = { ca, servername: 'other.example' }
    await refused({ tls: other }, 'carrier-unusable', /other\.example.*a name that it is for/)
    // Each part is left out, and given to a port that does not take it.
    const { tls: _t, ...plain } = safe
    const none = { ...plain, sasl: undefined as never, tls: undefined as never }
    await refused({ ...none, sasl }, 'carrier-unusable', /whether the port takes TLS/)
    await refused({ ...none, tls: safe.tls }, 'carrier-unreachable', /take TLS and a password/)
    await refused(
      { ...none, sasl, brokers: [broker!.address] },
      'carrier-unusable',
      /takes TLS and a password/,
    )
    await refused({ brokers: [broker!.address] }, 'carrier-unreachable', /take TLS and a password/)

    const names: string[] = []
    const keys = { key: await readFile(join(directory, 'key.pem')), cert: ca }
    const provider = createServer(keys, (socket) => {
      names.push(String(socket.servername))
      socket.destroy()
    })
    provider.listen(0, 'localhost')
    await once(provider, 'listening')
    const brokers = [`localhost:${(provider.address() as AddressInfo).port}`]
    await refused({ brokers, timeoutMs: 500 }, 'carrier-unreachable', /no answer/)
    provider.close()
    assert.equal(names[0], 'localhost')
  })

  test('a source makes a request of each record once, in order per key, and none of aborted ones', async (t) => {
    const bank = await appsOf<typeof passbookMade>(import.meta.resolve('../apps/passbook.ts')).bank()
    const engine = await createEngine({ app: bank, data: memoryStorage({ partitions: 2 }), report: () => {} })
    const topic = newTopic()
    const connecting = { clientId: 'test', bootstrapBrokers: [broker!.address] }
    const admin = new Admin(connecting)
    const pool = new ConnectionPool('test')
    const reports: Report[] = []
    const begin = () =>
      kafkaSource({
        ...{ engine, brokers: [broker!.address], topic, pollMs: 5 },
        report: (report) => reports.push(report),
        request({ key, value, headers }) {
          assert.equal(`${headers.get('kind')}`, 'payment')
          const { cents } = JSON.parse(`${value}`)
          return { type: 'deposit', input: { account: `${key}`, cents }, principal: 'ann' }
        },
      })
    const sources: ReturnType<typeof begin>[] = []
    const started = () => sources[sources.push(begin()) - 1]!
    t.after(async () => {
      for (const each of sources) await each.close()
      await Promise.all([engine.close(), pool.close(), admin.close()])
    })
    await admin.createTopics({ topics: [topic], partitions: 2, replicas: 1 })
    const [host, port] = broker!.address.split(':') as [string, string]
    const produce = await transactions(await pool.get({ host, port: Number(port) }), topic)
    const message = (account: string, value: string) => ({
      ...{ topic, partition: Number(account[1]) % 2, key: Buffer.from(account), value: Buffer.from(value) },
      headers: new Map([[Buffer.from('kind'), Buffer.from('payment')]]),
    })
    const pay = (cents: readonly number[], isKept = true) =>
      produce(
        cents.map((each) => message(`a${each % 3}`, `{"cents":${each}}`)),
        isKept,
      )
    const from = (first: number) => Array.from({ length: 6 }, (_, i) => first + i)
    const entries = async () => {
      const rows = await Promise.all([0, 1, 2].map((n) => engine.scan('entries', { prefix: [`a${n}`] })))
      return rows.flat().map(({ value }) => value.cents)
    }
    const settled = async (source: ReturnType<typeof begin>, decided: number, refused: number) => {
      const isSo = () => {
        const { position, ...counts } = source.stats()
        // The position is kept once a page is decided.
        return position !== '0.0' && counts.decided === decided && counts.refused === refused
      }
      while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 5))
    }
    await pay(from(1))
    await pay(from(100), false)
    await produce([message('a0', 'no JSON')], true)
    await pay(from(20))
    let source = started()
    await settled(source, 12, 1)
    const all = [3, 6, 21, 24, 1, 4, 22, 25, 2, 5, 20, 23]
    assert.deepEqual(await entries(), all)
    assert.deepEqual(
      reports.map(({ code }) => code),
      ['source-refused'],
    )
    await source.close()
    // From its position, and then from the beginning.
    await pay([40])
    source = started()
    await settled(source, 1, 0)
    await source.close()
    const digest = await engine.digest()
    const groupId = `hence.${topic}.${engine.stats().logId}`
    await admin.deleteGroups({ groups: [groupId] })
    source = started()
    await settled(source, 13, 1)
    assert.equal(await engine.digest(), digest)
    await source.close()
    const ends = source.stats().position!
    // Records that were removed before they were read.
    await pay(from(50))
    const [one, two] = ends.split('.').map((end, partition) => ({ partition, offset: BigInt(end) + 2n }))
    await admin.deleteRecords({ topics: [{ name: topic, partitions: [one!, two!] }] })
    started()
    while (!reports.some(({ code }) => code === 'source-lost'))
      await new Promise((resolve) => setTimeout(resolve, 5))
  })

  /** Reads a topic as anybody would: all records, and those that are new by their sequence. */
  async function read(topic: string, partitions: number) {
    const client = new KafkaClient('test', { clientId: 'test', bootstrapBrokers: [broker!.address] }, {})
    const all = await Promise.all(
      Array.from({ length: partitions }, async (_, partition) => {
        const { records } = await client.fetchForeign(topic, partition, 0)
        return records.map(({ key, value, headers }) => ({
          ...{ key: `${key}`, value: value && JSON.parse(`${value}`), partition },
          headers: Object.fromEntries([...headers].map(([name, text]) => [name, `${text}`])),
        }))
      }),
    )
    await client.close()
    const fresh = all.flatMap((records) => {
      let last = ''
      return records.filter(({ headers }) => {
        const isNew = headers['hence-sequence']! > last
        if (isNew) last = headers['hence-sequence']!
        return isNew
      })
    })
    return { all: all.flat(), fresh }
  }

  test('a sink writes outcomes, events and rows; lost answers and restarts repeat some, and readers find each once', async (t) => {
    const bank = await appsOf<typeof passbookMade>(import.meta.resolve('../apps/passbook.ts')).bank()
    const engine = await createEngine({ app: bank, data: memoryStorage({ partitions: 2 }), report: () => {} })
    const topic = newTopic()
    const admin = new Admin({ clientId: 'test', bootstrapBrokers: [broker!.address] })
    await admin.createTopics({ topics: [topic], partitions: 3, replicas: 1 })
    await admin.close()
    const names = { requests: ['deposit'], events: ['paid'], tables: ['accounts'] } as const
    const reports: Report[] = []
    const begin = () =>
      kafkaSink({
        ...{ engine, topic, ...names, brokers: [broker!.byLine], timeoutMs: 1_000 },
        report: (each) => reports.push(each),
      })
    let sink = begin()
    t.after(async () => {
      broker!.line.release()
      await sink.close()
      await engine.close()
    })
    let sent = 0
    const deposit = async (count: number) => {
      for (let i = 0; i < count; i++, sent++) {
        const input = { account: `a${sent % 7}`, cents: 1 + (sent % 20) }
        await engine.submit('deposit', input, { requestId: `r${sent}`, principal: 'ann' })
      }
    }
    const expected = async () => {
      const messages: LogMessage[] = []
      for await (const page of engine.messages(names)) {
        messages.push(...page.messages)
        if (messages.filter(({ kind }) => kind === 'requests').length === sent) break
      }
      return messages
    }
    const written = async () => {
      const messages = await expected()
      for (;;) {
        const found = await read(topic, 3)
        if (found.fresh.length >= messages.length) return { ...found, messages }
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    }
    await deposit(20)
    assert.equal((await written()).all.length, (await expected()).length)
    // The broker takes records, and its answers are lost.
    broker!.line.hold('answers')
    await deposit(20)
    while (reports.length === 0) await new Promise((resolve) => setTimeout(resolve, 20))
    broker!.line.cut()
    broker!.line.release()
    await written()
    await sink.close()
    await deposit(20)
    sink = begin()
    const { all, fresh, messages } = await written()
    assert.ok(all.length > messages.length, 'nothing was repeated')
    // In order per key, each once, with the request that it follows from.
    const shown = new Map<string, unknown[]>()
    const add = (key: string, message: unknown) => shown.set(key, [...(shown.get(key) ?? []), message])
    for (const { kind, name, key, requestId, message } of messages) {
      const of = kind === 'tables' ? JSON.stringify(message.key) : kind === 'events' ? message.key : key
      add(of, JSON.parse(JSON.stringify([kind, name, requestId, message])))
    }
    const found = new Map<string, unknown[]>()
    for (const { key, value, headers } of fresh) {
      const message = [headers['hence-kind'], headers['hence-name'], headers['hence-request'], value]
      found.set(key, [...(found.get(key) ?? []), message])
    }
    assert.deepEqual(found, shown)
    assert.ok(fresh.some(({ value }) => value.outcome?.status === 'failed'))
    // A key has one partition, that of every client of Kafka.
    assert.equal(new Set(fresh.map(({ key, partition }) => `${key} ${partition}`)).size, found.size)
  })

  test('a sink writes the rows of a view, and takes away those that the view does not have', async (t) => {
    const engine = await createEngine<WithViews<typeof sales, typeof views>>({
      app: fileURLToPath(import.meta.resolve('../apps/sales.ts')),
      views: [fileURLToPath(import.meta.resolve('../apps/sales-views.ts'))],
      data: memoryStorage({ partitions: 2 }),
      report: () => {},
    })
    const topic = newTopic()
    const connecting = { clientId: 'test', bootstrapBrokers: [broker!.address] }
    const [admin, producer] = [new Admin(connecting), new Producer(connecting)]
    const configs = [{ name: 'cleanup.policy', value: 'compact' }]
    await admin.createTopics({ topics: [topic], partitions: 1, replicas: 1, configs })
    const ghost = { topic, partition: 0, key: Buffer.from('["ghost"]'), value: Buffer.from('{}') }
    await producer.send({ messages: [ghost as never], acks: -1 })
    await Promise.all([admin.close(), producer.close()])
    const sinks: ReturnType<typeof kafkaSink>[] = []
    const begin = () =>
      sinks.push(kafkaSink({ engine, topic, brokers: [broker!.address], view: 'by-sku', report: () => {} }))
    t.after(async () => {
      for (const each of sinks) await each.close()
      await engine.close()
    })
    const buy = (order: string, sku: string, cents: number) =>
      engine.submit('buy', { order, sku, customer: 'ada', cents }, { requestId: order })
    const rows = async () => {
      const last = new Map<string, unknown>()
      for (const { key, value } of (await read(topic, 1)).all) last.set(key, value)
      return Object.fromEntries([...last].filter(([, value]) => value !== undefined))
    }
    const become = async (expected: object) => {
      while (!isDeepStrictEqual(await rows(), expected))
        await new Promise((resolve) => setTimeout(resolve, 10))
    }
    await buy('o1', 'mug', 100)
    begin()
    await become({ '["mug"]': { orders: 1, cents: 100 } })
    await buy('o2', 'mug', 100)
    await buy('o3', 'lamp', 100)
    await become({ '["mug"]': { orders: 2, cents: 200 }, '["lamp"]': { orders: 1, cents: 100 } })
    await sinks[0]!.close()
    await buy('o4', 'mug', 100)
    begin()
    await become({ '["mug"]': { orders: 3, cents: 300 }, '["lamp"]': { orders: 1, cents: 100 } })
    const { all, fresh } = await read(topic, 1)
    // But for the ghost, which has no sequence.
    assert.equal(fresh.length, all.length - 1)
  })

  test('retail and the airline derive the same from files and from Kafka, on one machine after another', async () => {
    const clock = { now: () => 1_800_000_000_000, alarm: () => () => {} }
    const orders = sample({ orders: 150 })
    const sends = {
      retail: (engine: Engine<Shop>) =>
        importAll(engine, orders, { signal: new AbortController().signal, onDecided() {}, inFlightMax: 2 }),
      airline: (engine: Engine<Airline>) => fly(engine, { name: 'a', flights: 3, random: randomFrom(1) }),
    }
    for (const [name, send] of Object.entries(sends)) {
      const app = await (name === 'retail' ? shops.default() : airlines.default())
      const topic = newTopic()
      const engineOn = async (data: string, log?: Carrier) => {
        const given = { app: app as never, partitions: 3, clock, report: () => {} }
        return createEngine({ ...given, data: join(directory, `${topic}-${data}`), ...(log && { log }) })
      }
      const inFiles = await engineOn('files')
      await send(inFiles as never)
      await inFiles.idle()
      const digest = await inFiles.digest()
      await inFiles.close()
      // The first is overtaken in the middle, and everything is sent again to the other.
      const first = await engineOn('first', silent(await open(topic)))
      const [reached, opened] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
      let sent = 0
      const sending = send(
        withSubmit(first, async (...given) => {
          if (++sent === 40) reached.resolve()
          if (sent >= 40) await opened.promise
          return first.submit(...given)
        }),
      ).catch((error: HenceError) => error)
      await reached.promise
      const second = await engineOn('second', await open(topic))
      opened.resolve()
      assert.equal(((await sending) as HenceError).advice, 'retry')
      // A batch that the first still sends is dead, and may make the second unsure of its own.
      await send(
        withSubmit(second, async (...given) => {
          for (;;) {
            const reply = await second.submit(...given).catch((error: HenceError) => error)
            if (!(reply instanceof HenceError)) return reply
            assert.equal(reply.advice, 'retry', reply.message)
          }
        }),
      )
      await second.idle()
      assert.equal(await second.digest(), digest, name)
      await second.close()
      await first.close().catch(() => {})
      const third = await engineOn('third', await open(topic))
      assert.equal(await third.digest(), digest, name)
      await third.close()
    }
  })

  test(crashAt('Kafka append', 'processes that duel for a log agree about all of it'), {
    timeout: 120_000,
  }, async () => {
    const kafka = { topic: newTopic(), oneBroker: true, timeoutMs: 2_000 }
    const lines = [broker!.address, broker!.byLine, broker!.byLine]
    const figures = await processDuel({
      ...{
        directory: join(directory, 'duel'),
        random: randomFrom(Date.now()),
        faults: 30,
        acknowledged: 500,
      },
      carriers: lines.map((address) => ({ kafka: { ...kafka, brokers: [address] } })),
      fault: () => broker!.line.cut(),
    })
    console.log(figures)
    for (const each of ['claims', 'taken', 'stops', 'kills'] as const) assert.ok(figures[each]! > 0, each)
  })

  test(
    crashAt('Kafka append', 'a leader that does not know its end yet is waited for, and has lost nothing'),
    (t) =>
      withLog(
        async (carrier) => {
          for (let n = 0; n < 3; n++) await carrier.append(0, batch(`batch ${n}`), n)
          // The real broker answers like a leader that was just elected of too few replicas in sync: it shows
          // the records that its predecessor had reported to be in sync, and refuses to name its end.
          const fetch = fetchV13.api.async
          const fetching = t.mock.method(
            fetchV13.api,
            'async',
            async (...asked: Parameters<typeof fetch>) => {
              const answer = await fetch(...asked)
              for (const partition of answer.responses[0]!.partitions) {
                partition.highWatermark = 2n
                partition.records = partition.records?.filter(({ firstOffset }) => firstOffset < 2n) ?? null
              }
              return answer
            },
          )
          const listing = t.mock.method(listOffsetsV7.api, 'async', async () => {
            throw new ResponseError(2, 7, { '/topics/0/partitions/0': [78, null] }, {})
          })
          broker!.line.cut()
          const waits = /OFFSET_NOT_AVAILABLE.*in sync/
          await rejects(positions(carrier, 0), 'carrier-unreachable', waits)
          await rejects(carrier.append(0, batch('batch 3'), 3), 'carrier-unreachable', waits)
          for (const each of [fetching, listing]) each.mock.restore()
          assert.equal(await carrier.append(0, batch('batch 3'), 3), 3)
          assert.deepEqual(await positions(carrier, 0), [0, 1, 2, 3])
        },
        { brokers: [broker!.byLine], timeoutMs: 1_000 },
      ),
  )

  test('a leader that another has followed is not asked for the end', (t) =>
    withLog(
      async (carrier) => {
        await carrier.append(0, batch('batch 0'), 0)
        const { metadata } = Admin.prototype
        const stale = t.mock.method(Admin.prototype, 'metadata', async function (
          this: Admin,
          options: never,
        ) {
          const answer = (await metadata.call(this, options)) as unknown as Awaited<
            ReturnType<typeof metadata>
          >
          const topics = [...answer.topics].map(([name, topic]) => {
            const partitions = topic.partitions.map((each) => ({
              ...each,
              leaderEpoch: each.leaderEpoch - 1,
            }))
            return [name, { ...topic, partitions }] as const
          })
          return { ...answer, topics: new Map(topics) }
        } as never)
        await rejects(positions(carrier, 0), 'carrier-unreachable', /has not learned yet/)
        stale.mock.restore()
        assert.deepEqual(await positions(carrier, 0), [0])
      },
      { timeoutMs: 1_000 },
    ))

  test(
    crashAt('Kafka append', 'a carrier that remembers a tail that the broker has lost refuses to go on'),
    { timeout: 120_000 },
    () =>
      withLog(async (carrier, again, topic) => {
        const late = await again()
        for (let n = 0; n < 5; n++) {
          for (const partition of [0, 1]) await carrier.append(partition, batch(`batch ${n}`), n)
        }
        for (const partition of [0, 1]) assert.deepEqual(await positions(late, partition), [0, 1, 2, 3, 4])
        const files = [await segment(topic, 0), await segment(topic, 1)]
        await broker!.kill('SIGKILL')
        for (const file of files) {
          const bytes = await readFile(file)
          await truncate(file, bytes.indexOf('batch 3') - 10)
        }
        await broker!.start()
        const other = await again()
        assert.deepEqual(await positions(other, 0), [0, 1, 2])
        const lost = /had a record at offset 4, and goes on at \d without it|records of topic .* are gone/
        // The offsets are given again, to other batches.
        for (let n = 0; n < 5; n++) await other.append(0, batch(`other ${n}`), 3 + n)
        for (const each of [carrier, late]) {
          for (const partition of [0, 1]) {
            await rejects(positions(each, partition, 5), 'carrier-lost-records', lost)
            await rejects(each.append(partition, batch('more'), 5), 'carrier-lost-records', lost)
          }
        }
        assert.equal((await positions(other, 0)).length, 8)
        assert.equal((await positions(other, 1)).length, 3)
      }),
  )
}

/** Calls with messages for a topic, which become one transaction each that is kept or aborted. */
async function transactions(connection: Connection, topic: string) {
  const begin = async () => {
    for (;;) {
      try {
        await findCoordinatorV6.api.async(connection, 1, [topic])
        return await initProducerIdV4.api.async(connection, topic, 60_000)
      } catch {
        // The broker is still making its own topic for this.
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    }
  }
  return async (messages: readonly { readonly partition: number }[], isKept: boolean): Promise<void> => {
    // A new epoch each time, so that sequences begin at 0.
    const { producerId, producerEpoch } = await begin()
    const partitions = [...new Set(messages.map(({ partition }) => partition))]
    const of = { transactionalId: topic, producerId, producerEpoch }
    const added = { ...of, verifyOnly: false, topics: [{ name: topic, partitions }] }
    await addPartitionsToTxnV3.api.async(connection, [added])
    for (const partition of partitions) {
      const own = messages.filter((each) => each.partition === partition)
      await produceV9.api.async(connection, -1, 5_000, own as never, { ...of, firstSequence: 0 })
    }
    await endTxnV3.api.async(connection, topic, producerId, producerEpoch, isKept)
  }
}

/** An engine with another `submit`. */
function withSubmit<E extends Engine<App>>(engine: E, submit: E['submit']): never {
  return withOther(engine, 'submit', submit) as never
}

/** A carrier of a process of which nobody learns that it is active. */
function silent(carrier: Carrier): Carrier {
  return withOther(carrier, 'put', async (name: string, bytes: Uint8Array) => {
    if (name !== 'active') await carrier.put(name, bytes)
  })
}

function withOther<T extends object>(one: T, method: string, other: unknown): T {
  const own = (value: unknown) => (typeof value === 'function' ? value.bind(one) : value)
  return new Proxy(one, { get: (_, name) => (name === method ? other : own(Reflect.get(one, name))) })
}

const facts: CarrierFacts = { logId: 'c'.repeat(32), partitions: 2, segmentBytes: 1 << 20 }

/** A batch whose place in a chain does not matter. */
function batch(content: string | Buffer): CarrierBatch {
  return { bytes: Buffer.from(content), before: Buffer.alloc(32), hash: Buffer.alloc(32, 1), offset: 0 }
}

async function positions(carrier: Carrier, partition: number, from = 0): Promise<number[]> {
  const found = []
  for await (const { position } of carrier.read(partition, from)) found.push(position)
  return found
}

/** Calls again until a broker that starts can be reached. */
async function untilReached(run: () => Promise<void>): Promise<void> {
  for (;;) {
    try {
      return await run()
    } catch (error) {
      assert.equal((error as HenceError).code, 'carrier-unreachable')
    }
  }
}

async function rejects(promise: Promise<unknown>, code: string, message: RegExp): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof HenceError, `${error}`)
    assert.equal(error.code, code, error.message)
    assert.match(error.message, message)
    return true
  })
}

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, openSync } from 'node:fs'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { makeCertificate } from './certificate.ts'
import { freePorts } from './free-port.ts'
import { TcpProxy } from './tcp-proxy.ts'

const run = promisify(execFile)

/** No Kafka can be started on this machine. */
export class NoKafka extends Error {}

export interface Broker {
  /** Its address for clients, and the one for clients that come over its line. */
  readonly address: string
  readonly byLine: string
  /** Its address for clients with TLS and the password of `shop`. */
  readonly safe: string
  readonly line: TcpProxy
  /** The files of its partitions. Change them only while it is halted. */
  readonly data: string
  kill(signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): Promise<void>
  /** Starts it again; resolves when it listens. */
  start(): Promise<void>
}

export interface Brokers {
  readonly all: readonly Broker[]
  stop(): Promise<void>
}

const running = new Set<ChildProcess>()
// The brokers end with this process, however that ends.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/**
 * Starts brokers that are controllers too, from the jars of Maven Central, which are fetched once. Each has
 * three listeners on loopback: one for everybody, one behind a line that can be cut, and one with TLS and
 * SASL, whose certificate is in the directory.
 * @throws NoKafka if there is no Java or no Maven, or the jars cannot be fetched
 */
export async function startBrokers(count: number, directory: string, settings = ''): Promise<Brokers> {
  const jars = await fetchJars()
  const ports = await freePorts(4 * count)
  await mkdir(directory, { recursive: true })
  await makeCertificate(directory)
  const voters = Array.from({ length: count }, (_, id) => `${id}@127.0.0.1:${ports[4 * id + 2]}`).join(',')
  const all: Broker[] = []
  for (let id = 0; id < count; id++) {
    all.push(await prepare(id, join(directory, String(id)), ports.slice(4 * id), voters, jars, settings))
  }
  await Promise.all(all.map((broker) => broker.start()))
  return {
    all,
    async stop() {
      for (const broker of all) await broker.kill('SIGKILL')
      for (const broker of all) await broker.line.close()
    },
  }
}

async function prepare(
  id: number,
  directory: string,
  [port, linePort, controllerPort, safePort]: readonly number[],
  voters: string,
  jars: string,
  settings: string,
): Promise<Broker> {
  const line = await TcpProxy.listen(() => linePort!)
  const data = join(directory, 'data')
  await mkdir(data, { recursive: true })
  const pem = await Promise.all(
    ['key.pem', 'certificate.pem'].map((name) => readFile(join(directory, '..', name))),
  )
  await writeFile(join(directory, 'keystore.pem'), Buffer.concat(pem))
  const replicas = Math.min(3, voters.split(',').length)
  const properties = `
process.roles=broker,controller
node.id=${id}
controller.quorum.voters=${voters}
listeners=ALL://127.0.0.1:${port},LINE://127.0.0.1:${linePort},CONTROLLER://127.0.0.1:${controllerPort},SAFE://127.0.0.1:${safePort}
advertised.listeners=ALL://127.0.0.1:${port},LINE://127.0.0.1:${line.port},SAFE://localhost:${safePort}
controller.listener.names=CONTROLLER
listener.security.protocol.map=ALL:PLAINTEXT,LINE:PLAINTEXT,CONTROLLER:PLAINTEXT,SAFE:SASL_SSL
listener.name.safe.ssl.keystore.type=PEM
listener.name.safe.ssl.keystore.location=${join(directory, 'keystore.pem')}
listener.name.safe.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.safe.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_shop="right";
listener.name.safe.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
inter.broker.listener.name=ALL
log.dirs=${data}
num.network.threads=2
num.io.threads=2
background.threads=2
num.recovery.threads.per.data.dir=1
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=4194304
auto.create.topics.enable=false
default.replication.factor=${replicas}
offsets.topic.replication.factor=${replicas}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=${replicas}
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
broker.session.timeout.ms=6000
${settings}`
  await writeFile(join(directory, 'server.properties'), properties)
  await writeFile(join(directory, 'log4j2.properties'), logging)
  // As the formatting tool would write it, without a second start of Java.
  const identity = `version=1\ncluster.id=aGVuY2UtdGVzdC1rYWZrYQ\nnode.id=${id}\ndirectory.id=R7l3Y2hXQ0y0m1Vn4o5p6${'QgwA'[id]}\n`
  await writeFile(join(data, 'meta.properties'), identity)
  let server: ChildProcess | undefined
  return {
    address: `127.0.0.1:${port}`,
    byLine: `127.0.0.1:${line.port}`,
    safe: `localhost:${safePort}`,
    line,
    data,
    async kill(signal) {
      if (server === undefined || server.exitCode !== null || server.signalCode !== null) return
      const exited = signal === 'SIGKILL' ? once(server, 'exit') : undefined
      server.kill(signal)
      await exited
    },
    async start() {
      const output = openSync(join(directory, 'output.log'), 'a')
      const memory = ['-Xms64m', '-Xmx256m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1']
      const classes = [
        '-cp',
        join(jars, '*'),
        `-Dlog4j2.configurationFile=${join(directory, 'log4j2.properties')}`,
      ]
      const args = [
        ...memory,
        ...classes,
        `-Dkafka.logs.dir=${directory}`,
        'kafka.Kafka',
        'server.properties',
      ]
      const child = spawn('java', args, { cwd: directory, stdio: ['ignore', output, output] })
      server = child
      running.add(child)
      child.once('exit', () => running.delete(child))
      while (!(await listens(port!))) {
        if (child.exitCode !== null) {
          throw new NoKafka(
            `it ended: ${(await readFile(join(directory, 'output.log'), 'utf8')).slice(-2000)}`,
          )
        }
        await pause(50)
      }
    },
  }
}

const logging = `status=error
appender.out.type=Console
appender.out.name=OUT
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=[%d] %p %m (%c)%n
rootLogger.level=WARN
rootLogger.appenderRef.out.ref=OUT
`

/** The directory of the jars; they are fetched unless another run has done so. */
async function fetchJars(): Promise<string> {
  const root = join(import.meta.dirname, '..')
  const pom = join(import.meta.dirname, 'kafka/pom.xml')
  const version = /kafka_2\.13<\/artifactId>\s*<version>([^<]+)/.exec(await readFile(pom, 'utf8'))![1]!
  const jars = join(root, `node_modules/.cache/kafka-${version}`)
  await run('java', ['-version']).catch(() => {
    throw new NoKafka('there is no Java on this machine')
  })
  if (existsSync(jars)) return jars
  const fetched = `${jars}.${process.pid}`
  const options = [`-DoutputDirectory=${fetched}`, '-DincludeScope=runtime']
  await run('mvn', ['-q', '-B', '-f', pom, 'dependency:copy-dependencies', ...options]).catch((error) => {
    throw new NoKafka(`Maven cannot fetch the jars: ${(error as Error).message.slice(0, 500)}`)
  })
  await rename(fetched, jars).catch(() => rm(fetched, { recursive: true }))
  return jars
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => resolve(true))
    socket.once('error', () => resolve(false))
    socket.once('close', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}

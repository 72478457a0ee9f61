import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { createEngine } from 'hence'
import { connect } from 'hence/client'
import { server } from 'hence/server'
import { memoryStorage } from 'hence/testing'
import { kafkaLogAt } from '../../src/kafka/address.ts'
import type shop from '../../template/shop/shop.ts'
import { crashAt } from '../crash-points.ts'
import { freePort } from '../free-port.ts'
import { Running } from '../hence-process.ts'
import { logAddress, startLogCluster } from '../postgres-cluster.ts'
import { parseYaml } from '../yaml.ts'

// The files of kit/: their command lines run as plain processes with the same variables, their expressions
// are read, and the metrics in them exist. No container and no cluster is started.

const run = promisify(execFile)
const root = join(import.meta.dirname, '../..')
const kit = (path: string) => readFile(join(root, 'kit', path), 'utf8')
let home: string

before(async () => {
  // Within the project, so that the app can import Hence.
  await mkdir(join(root, 'data'), { recursive: true })
  home = await mkdtemp(join(root, 'data/kit-'))
  await copyFile(join(root, 'template/shop/shop.ts'), join(home, 'shop.ts'))
  const program = `#!/bin/sh\nexec "${process.execPath}" -C hence-source "${join(root, 'src/cli/main.ts')}" "$@"\n`
  await writeFile(join(home, 'hence'), program)
  await chmod(join(home, 'hence'), 0o755)
})
after(() => rm(home, { recursive: true, force: true }))

/** The JSON list after a word of the Dockerfile. */
async function dockerfile(word: string): Promise<string[]> {
  const [, list] = new RegExp(`^${word}.*? (\\[.*\\])$`, 'm').exec(await kit('docker/Dockerfile'))!
  return JSON.parse(list!)
}
const program = '/app/node_modules/.bin/hence'

/** The words with local paths in the places of those in a container. */
function replaced(words: readonly string[], paths: Readonly<Record<string, string>>): string[] {
  const pattern = Object.keys(paths).map((path) => path.replaceAll('$', '\\$'))
  return words.map((word) => word.replaceAll(new RegExp(pattern.join('|'), 'g'), (path) => paths[path]!))
}

interface Service {
  readonly command?: readonly string[]
  readonly entrypoint?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly volumes?: readonly string[]
  readonly depends_on?: unknown
}

interface Compose {
  readonly services: Record<string, Service>
}

const { cluster, skip, end } = await startLogCluster()
after(end)

test(crashAt('log sealed', 'the processes of compose.yaml: the standby takes over'), { skip }, async (t) => {
  assert.deepEqual(await dockerfile('ENTRYPOINT'), [program])
  const [compose] = parseYaml(await kit('docker/compose.yaml')) as [Compose]
  const local = logAddress(cluster!)
  const environmentOf = ({ environment = {} }: Service) =>
    Object.fromEntries(
      Object.entries(environment).map(([name, value]) => [
        name,
        value.replace(/^postgres:.*@db\/shop$/, local),
      ]),
    )
  const placed = (words: readonly string[], { volumes = [] }: Service) => {
    const folders = Object.fromEntries(
      volumes.map((volume) => volume.split(':')).map(([name, path]) => [path!, join(home, name!)]),
    )
    return replaced(words, { ...folders, [program]: join(home, 'hence'), $$: '$' })
  }
  await mkdir(join(home, 'one'), { mode: 0o700 })
  await mkdir(join(home, 'two'), { mode: 0o700 })

  const { migrate, keys, db } = compose.services
  assert.deepEqual(Object.keys(compose.services), ['db', 'migrate', 'keys', 'shop-1', 'shop-2'])
  assert.ok(db)
  await run(join(home, 'hence'), placed(migrate!.command!, migrate!), {
    env: { ...process.env, ...environmentOf(migrate!) },
  })
  const [shell, ...script] = placed(keys!.entrypoint!, keys!)
  const asked = await run(shell!, [...script, 'web', '--permission', 'submit', 'read'])
  const key = asked.stdout.trim()

  const start = async (name: string) => {
    const service = compose.services[name]!
    assert.deepEqual(service.command!.slice(0, 6), await dockerfile('CMD'))
    const PORT = `${await freePort()}`
    const running = new Running(placed(service.command!, service), {
      cwd: home,
      env: { ...environmentOf(service), PORT },
    })
    t.after(() => running.stop('SIGKILL'))
    const check = (await dockerfile('HEALTHCHECK')).map((word) => word.replace('4362', PORT))
    const healthy = () => run(check[0]!, check.slice(1)).then(Boolean, () => false)
    return { running, url: `http://127.0.0.1:${PORT}`, healthy }
  }
  const first = await start('shop-1')
  await first.running.line(/listens on/)
  const second = await start('shop-2')
  await second.running.error(/http:\/\/shop-1:4362, which is active/)
  assert.ok(await first.healthy())
  assert.ok(await second.healthy(), 'a standby counts as unhealthy')

  const shop = connect<typeof import('../../template/shop/shop.ts').default>([first.url, second.url], {
    key: () => key,
  })
  t.after(() => shop.close())
  const mugs = { product: 'mug', title: 'A mug', quantity: 3 }
  await shop.submit('stock-product', mugs, { requestId: 'r1' })
  await first.running.stop('SIGKILL')
  const again = await shop.submit('stock-product', mugs, { requestId: 'r1' })
  assert.deepEqual([again.status, again.replayed], ['accepted', true])
  assert.ok(!(await first.healthy()))
  assert.equal(await second.running.stop(), 0)
})

test('compose-kafka.yaml runs the same processes on three brokers', async () => {
  const read = async (name: string) => (parseYaml(await kit(`docker/${name}`)) as [Compose])[0].services
  const [{ db: _, migrate: __, ...inPostgres }, inKafka] = await Promise.all([
    read('compose.yaml'),
    read('compose-kafka.yaml'),
  ])
  const brokers = Object.entries(inKafka).filter(([name]) => name.startsWith('kafka-'))
  const addresses = brokers.map(([name, { environment, volumes }], index) => {
    const { KAFKA_NODE_ID, KAFKA_ADVERTISED_LISTENERS, KAFKA_LOG_DIRS, ...shared } = environment!
    assert.deepEqual([KAFKA_NODE_ID, volumes], [index + 1, [`${name}:${KAFKA_LOG_DIRS}`]])
    const {
      KAFKA_NODE_ID: _,
      KAFKA_ADVERTISED_LISTENERS: __,
      KAFKA_LOG_DIRS: ___,
      ...first
    } = brokers[0]![1].environment!
    assert.deepEqual(shared, first)
    assert.ok(shared['KAFKA_CONTROLLER_QUORUM_VOTERS']!.split(',')[index] === `${index + 1}@${name}:9093`)
    return KAFKA_ADVERTISED_LISTENERS!.replace('PLAINTEXT://', '')
  })
  assert.equal(addresses.length, 3)
  for (const [name, { depends_on: _, environment, ...service }] of Object.entries(inPostgres)) {
    const { environment: its, ...same } = inKafka[name]!
    assert.deepEqual(same, service)
    if (environment)
      assert.deepEqual(kafkaLogAt(its!['HENCE_LOG']!), { brokers: addresses, topic: 'shop-log' })
  }
})

test('the unit of systemd starts, and stops by its signal', async (t) => {
  const unit = await kit('systemd/hence@.service')
  const value = (name: string) => new RegExp(`^${name}=(.*)$`, 'm').exec(unit)![1]!
  const [path, ...words] = value('ExecStart').split(' ')
  assert.equal(path, `${value('WorkingDirectory')}/node_modules/.bin/hence`)
  const args = words.map((word) => word.replace('/var/lib/hence/shop', join(home, 'unit')))
  const running = new Running([...args, '--open'], { cwd: home, env: { PORT: '0' } })
  t.after(() => running.stop('SIGKILL'))
  await running.line(/listens on/)
  assert.equal(await running.stop(value('KillSignal') as NodeJS.Signals), 0)
})

/** An object of Kubernetes. */
// biome-ignore lint/suspicious/noExplicitAny: its fields are what the test looks at
type Chart = Record<string, any>

test('the chart starts a process that its probes find', async (t) => {
  const [values] = parseYaml(await kit('helm/hence/values.yaml')) as [Record<string, string | number>]
  const schema = JSON.parse(await kit('helm/hence/values.schema.json'))
  for (const name of [...schema.required, ...Object.keys(values)]) {
    assert.ok(name in values && name in schema.properties, `${name} is not in both values and schema`)
    const { type, pattern } = schema.properties[name]
    if (type) assert.equal(typeof values[name], type === 'integer' ? 'number' : type)
    if (pattern) assert.match(`${values[name]}`, new RegExp(pattern))
  }
  /** Helm's templates, as far as the chart uses them. */
  const rendered = async (name: string) =>
    parseYaml(
      (await kit(`helm/hence/templates/${name}`)).replaceAll(/\{\{ \.([\w.]+) \}\}/g, (_, path: string) => {
        if (path === 'Release.Name') return 'shop'
        const value = values[path.replace('Values.', '')]
        assert.ok(value !== undefined, `{{ .${path} }} has no value`)
        return `${value}`
      }),
    ) as Chart[]
  assert.deepEqual((await readdir(join(root, 'kit/helm/hence/templates'))).sort(), [
    'service.yaml',
    'statefulset.yaml',
  ])
  const [statefulSet] = await rendered('statefulset.yaml')
  const [service, pods] = await rendered('service.yaml')
  const named = ({ name }: { readonly name: string }) => name
  const { metadata, spec } = statefulSet!['spec'].template
  assert.deepEqual(service!['spec'].selector, metadata.labels)
  assert.equal(pods!['metadata'].name, statefulSet!['spec'].serviceName)
  const [container] = spec.containers
  const claims = statefulSet!['spec'].volumeClaimTemplates.map((claim: Chart) => claim['metadata'].name)
  const volumes = [...claims, ...spec.volumes.map(named)]
  for (const name of container.volumeMounts.map(named)) assert.ok(volumes.includes(name), name)

  // The keys come from a secret.
  await mkdir(join(home, 'secret'))
  await run(join(home, 'hence'), [
    'keys',
    'create',
    'ops',
    '--data',
    join(home, 'secret'),
    '--permission',
    'operate',
  ])
  const placed = (words: readonly string[]) =>
    replaced(words, { '/keys/': join(home, 'secret/'), '/data/': join(home, 'volume/') })
  const [shell, ...script] = placed(spec.initContainers[0].command)
  await run(shell!, script)
  // Without a log elsewhere there is no address to give to others.
  const args = placed(container.args).filter(
    (_, i, all) => all[i] !== '--advertise' && all[i - 1] !== '--advertise',
  )
  const PORT = `${await freePort()}`
  const running = new Running(args, { cwd: home, env: { PORT } })
  t.after(() => running.stop('SIGKILL'))
  await running.line(/listens on/)
  for (const { httpGet } of [container.livenessProbe, container.readinessProbe]) {
    assert.equal((await fetch(`http://127.0.0.1:${PORT}${httpGet.path}`)).status, 200)
    assert.equal(httpGet.port, container.ports[0].name)
  }
  assert.equal(container.ports[0].containerPort, 4362)
  assert.equal((await fetch(`http://127.0.0.1:${PORT}/metrics`)).status, 401)
  assert.equal(await running.stop(), 0)
})

test('dashboard and alerts: expressions are well formed, and their metrics exist', async () => {
  const engine = await createEngine<typeof shop>({
    app: import.meta.resolve('../../template/shop/shop.ts'),
    data: memoryStorage(),
    report: () => {},
  })
  const web = server(engine, { open: true, report: () => {} })
  const { url } = await web.listen()
  const post = { method: 'POST', headers: { 'content-type': 'application/json', 'idempotency-key': 'r1' } }
  const mugs = JSON.stringify({ product: 'mug', title: 'A mug', quantity: 3 })
  await fetch(`${url}/requests/stock-product`, { ...post, body: mugs })
  const text = await (await fetch(`${url}/metrics`)).text()
  await web.close()
  await engine.close()
  const kinds = new Map([...text.matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(([, name, kind]) => [name!, kind!]))
  const labelsOf = (name: string) =>
    [...text.matchAll(new RegExp(`^${name}\\{(.*?)\\} `, 'gm'))].flatMap(([, labels]) =>
      [...labels!.matchAll(/(\w+)="/g)].map(([, label]) => label!),
    )

  const [alerts] = parseYaml(await kit('prometheus/alerts.yaml')) as [
    {
      groups: { rules: { alert: string; expr: string; for?: string; annotations: { summary: string } }[] }[]
    },
  ]
  const rules = alerts.groups.flatMap((group) => group.rules)
  assert.equal(new Set(rules.map(({ alert }) => alert)).size, rules.length)
  for (const each of rules) assert.match(each.for ?? '1m', /^\d+[smh]$/)
  const dashboard = JSON.parse(await kit('grafana/hence.json')) as {
    panels: { id: number; title: string; targets: { expr: string; legendFormat: string }[] }[]
  }
  assert.equal(new Set(dashboard.panels.map(({ id }) => id)).size, dashboard.panels.length)
  for (const expression of [
    ...rules.map(({ expr }) => expr),
    ...dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)),
  ]) {
    for (const { name, labels, isRange } of selectorsOf(expression)) {
      if (name === 'up') continue
      const base = name.replace(/_(bucket|sum|count)$/, '')
      const kind = kinds.get(name) ?? (kinds.get(base) === 'histogram' ? 'counter' : undefined)
      assert.ok(kind, `${name} is no metric of Hence: ${expression}`)
      assert.equal(
        isRange,
        kind === 'counter' || name === 'hence_records_applied',
        `${name} in ${expression}`,
      )
      for (const label of labels) assert.ok(labelsOf(name).includes(label), `${name} has no label ${label}`)
    }
  }
})

test('expressions with a fault are refused', () => {
  for (const wrong of ['sum(', 'rate(a[5m]', 'a{b="c"', 'a > ', 'a b', 'sum by le (a)', 'nosuch(a)', 'a[5]'])
    assert.throws(() => selectorsOf(wrong), wrong)
})

interface Selector {
  readonly name: string
  readonly labels: readonly string[]
  readonly isRange: boolean
}

const functions = ['rate', 'increase', 'histogram_quantile']
const aggregations = ['sum', 'max', 'min']
const operators = ['==', '>', '<', '*', '/', '+', '-', 'and', 'or']

/** Reads an expression of PromQL, as far as the kit uses it, and returns what it selects. */
function selectorsOf(expression: string): Selector[] {
  const words = expression.match(/"[^"]*"|\d+[smhd]|[\d.]+(?:e\d+)?|\w+|=~|!=|==|\S/g) ?? []
  const found: Selector[] = []
  let at = 0
  const take = (fits: RegExp | string): string => {
    const word = words[at++]
    const isRight = typeof fits === 'string' ? word === fits : word !== undefined && fits.test(word)
    assert.ok(isRight, `${fits} is expected at word ${at} of ${expression}`)
    return word!
  }
  const whether = (word: string) => words[at] === word && ++at > 0
  const labelList = () => {
    take('(')
    do take(/^[a-z_]+$/)
    while (whether(','))
    take(')')
  }
  const operand = (): void => {
    if (whether('(')) {
      sum()
      take(')')
      return
    }
    const word = take(/^[\w.]+$/)
    if (/^[\d.]/.test(word)) return
    if (aggregations.includes(word)) {
      if (whether('by')) labelList()
      take('(')
      sum()
      take(')')
      return
    }
    if (words[at] === '(') {
      assert.ok(functions.includes(word), `${word} is no function`)
      at++
      do sum()
      while (whether(','))
      take(')')
      return
    }
    const labels: string[] = []
    if (whether('{')) {
      do {
        labels.push(take(/^[a-z_]+$/))
        take(/^(=|=~|!=)$/)
        take(/^"/)
      } while (whether(','))
      take('}')
    }
    const isRange = whether('[')
    if (isRange) {
      take(/^\d+[smhd]$/)
      take(']')
    }
    found.push({ name: word, labels, isRange })
  }
  const sum = (): void => {
    operand()
    while (operators.includes(words[at] ?? '')) {
      at++
      operand()
    }
  }
  sum()
  assert.equal(at, words.length, `${words[at]} is too much in ${expression}`)
  return found
}

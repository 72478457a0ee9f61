import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { parseYaml } from '../yaml.ts'
import { root, run } from './packed.ts'

// The files of kit/ as the tools themselves read them: YAML, PromQL by Prometheus's own grammar, JSON Schema.

const kit = (path: string) => readFile(join(root, 'kit', path), 'utf8')

test('YAML, PromQL and the schema of the chart, by parsers of others', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'hence-kit-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'package.json'), '{"private":true}')
  const packages = [
    'yaml',
    '@prometheus-io/lezer-promql',
    '@lezer/lr',
    '@lezer/common',
    '@lezer/highlight',
    'ajv',
  ]
  await run(folder, 'npm', 'install', '--prefer-offline', ...packages)
  const require = createRequire(join(folder, 'package.json'))

  const { parseAllDocuments } = require('yaml')
  const files = [
    'docker/compose.yaml',
    'docker/compose-kafka.yaml',
    'helm/hence/Chart.yaml',
    'helm/hence/values.yaml',
    'prometheus/alerts.yaml',
  ]
  for (const file of files) {
    const read = parseAllDocuments(await kit(file)).map((each: { toJS(): unknown }) => each.toJS())
    assert.deepEqual(parseYaml(await kit(file)), read, file)
  }
  const [values] = parseYaml(await kit('helm/hence/values.yaml')) as [Record<string, unknown>]
  for (const name of ['statefulset', 'service']) {
    const text = (await kit(`helm/hence/templates/${name}.yaml`)).replaceAll(/\{\{ .*? \}\}/g, 'value')
    const read = parseAllDocuments(text).map((each: { toJS(): unknown }) => each.toJS())
    assert.deepEqual(parseYaml(text), read, name)
  }

  const Ajv = require('ajv/dist/2020').default
  const fits = new Ajv().compile(JSON.parse(await kit('helm/hence/values.schema.json')))
  assert.ok(fits(values), JSON.stringify(fits.errors))
  assert.ok(!fits({ ...values, replicas: 2 }), 'two replicas with a rolling update')
  assert.ok(fits({ ...values, replicas: 2, updateStrategy: 'OnDelete' }))
  assert.ok(!fits({ ...values, replicas: '2' }) && !fits({ ...values, storage: '20GB' }))

  const { parser } = require('@prometheus-io/lezer-promql')
  const faultIn = (expression: string): boolean => {
    let isWrong = false
    parser.parse(expression).iterate({
      enter({ type }: { readonly type: { readonly isError: boolean } }) {
        if (type.isError) isWrong = true
      },
    })
    return isWrong
  }
  assert.ok(faultIn('sum('))
  const dashboard = JSON.parse(await kit('grafana/hence.json')) as {
    panels: { targets: { expr: string }[] }[]
  }
  const [alerts] = parseYaml(await kit('prometheus/alerts.yaml')) as [
    { groups: { rules: { expr: string }[] }[] },
  ]
  const expressions = [
    ...alerts.groups.flatMap(({ rules }) => rules),
    ...dashboard.panels.flatMap(({ targets }) => targets),
  ]
  assert.ok(expressions.length > 20)
  for (const { expr } of expressions) assert.ok(!faultIn(expr), expr)
})

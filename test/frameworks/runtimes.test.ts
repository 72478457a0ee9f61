import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { project, run } from './packed.ts'

// The runtimes and compilers that docs/reference/runtimes.md names, with the packed product.

const bank = `import { app, reject, scopes } from 'hence'
import { z } from 'zod'

const [account] = scopes('account')
const accounts = account.table('accounts', { value: z.object({ cents: z.int() }) })
const pay = account.request('pay', {
  input: z.object({ account: z.string(), cents: z.int() }),
  key: (input) => input.account,
  derive(tx, { cents }) {
    const sum = (tx.get(accounts)?.cents ?? 0) + cents
    if (sum < 0) return reject('too-little')
    tx.put(accounts, { cents: sum })
    return { cents: sum }
  },
})

export default app('bank', { requests: [pay], tables: [accounts] })
`
const embed = `import { createEngine } from 'hence'
import { connect } from 'hence/client'
import { server } from 'hence/server'
import type bank from './bank.js'

const open = () =>
  createEngine<typeof bank>({ app: new URL('./bank.ts', import.meta.url), data: process.argv[2]! })
let engine = await open()
const first = await engine.submit('pay', { account: 'a', cents: 5 }, { requestId: 'r1' })
await engine.close()
engine = await open()
const again = await engine.submit('pay', { account: 'a', cents: 5 }, { requestId: 'r1' })
const served = server(engine, { open: true })
const { url } = await served.listen({ port: 0 })
const hence = connect<typeof bank>(url)
const refused = await hence.submit('pay', { account: 'a', cents: -9 }, { requestId: 'r2' })
const row = await hence.get('accounts', ['a'])
await hence.close()
await served.close()
await engine.close()
console.log(JSON.stringify([first.status, again.replayed, refused.status, row]))
`
const expected = '["accepted",true,"rejected",{"cents":5}]'

test('Node 22.18, 24 and 26, Bun, Deno', async (t) => {
  const packages = ['zod', 'node22@npm:node@22.18.0', 'node24@npm:node@24', 'bun', 'deno']
  const folder = await project(t, packages, { 'bank.ts': bank, 'embed.ts': embed })
  const bin = (name: string) => join(folder, 'node_modules', name)
  const runtimes: Record<string, readonly string[]> = {
    'Node 22.18': [bin('node22/bin/node')],
    'Node 24': [bin('node24/bin/node')],
    'Node 26': [process.execPath],
    Bun: [bin('.bin/bun')],
    Deno: [bin('.bin/deno'), 'run', '-A'],
  }
  for (const [name, [program, ...args]] of Object.entries(runtimes)) {
    await t.test(name, async () => {
      const out = await run(folder, program!, ...args, 'embed.ts', `data-${name}`)
      assert.equal(out.trim().split('\n').at(-1), expected)
    })
  }
})

test('TypeScript 5.9 and 7, for Node and for a bundler', async (t) => {
  const folder = await project(t, ['zod', 'ts5@npm:typescript@5.9', 'ts7@npm:typescript@7', '@types/node'], {
    'bank.ts': bank,
    'embed.ts': embed,
  })
  for (const compiler of ['ts5', 'ts7']) {
    for (const [module, resolution] of [
      ['nodenext', 'nodenext'],
      ['esnext', 'bundler'],
    ] as const) {
      const options = ['--noEmit', '--strict', '--target', 'es2022', '--types', 'node']
      const modules = ['--module', module, '--moduleResolution', resolution]
      await t.test(`${compiler}, ${resolution}`, async () => {
        await run(
          folder,
          join(folder, 'node_modules', compiler, 'bin/tsc'),
          ...options,
          ...modules,
          'embed.ts',
        )
      })
    }
  }
})

test('CommonJS requires it', async (t) => {
  const folder = await project(t, ['zod'], {
    'bank.ts': bank,
    'main.cjs': `const { createEngine } = require('hence')
createEngine({ app: require('node:path').join(__dirname, 'bank.ts'), data: 'data' }).then(async (engine) => {
  console.log((await engine.submit('pay', { account: 'a', cents: 5 }, { requestId: 'r1' })).status)
  await engine.close()
})
`,
  })
  assert.equal((await run(folder, process.execPath, 'main.cjs')).trim(), 'accepted')
})

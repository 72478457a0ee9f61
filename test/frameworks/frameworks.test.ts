import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { crashAt } from '../crash-points.ts'
import { freePort } from '../free-port.ts'
import { env, project, root, run } from './packed.ts'

// The recipes of docs/how-to/mount.md for frameworks that compile: each with the newest version of its
// framework, built, started, and used. Minutes of work and packages of others, so not in every run.

const page = await readFile(join(root, 'docs/how-to/mount.md'), 'utf8')
const definitions = await readFile(join(root, 'docs/reference/app.md'), 'utf8')

/** Returns the file of the page that names itself in its first line. */
function file(name: string): string {
  const block = page.split('```ts\n').find((each) => each.startsWith(`// ${name}\n`))
  assert.ok(block, `docs/how-to/mount.md has no file ${name}`)
  return block.slice(0, block.indexOf('```'))
}

const bank = /^```ts bank\.ts\n(.*?)^```$/ms.exec(definitions)![1]!
const own = { 'bank.ts': bank, 'hence.ts': file('hence.ts') }

test(crashAt('log sealed', 'Next'), { timeout: 600_000 }, async (t) => {
  const route = 'app/hence/[...path]/route.ts'
  const packages = ['next', 'react', 'react-dom', 'zod', 'typescript@5.9', '@types/react', '@types/node']
  const folder = await project(t, packages, {
    ...own,
    [route]: file(route),
    'next.config.ts': file('next.config.ts'),
    'app/layout.tsx':
      'export default ({ children }: { children: React.ReactNode }) => <html><body>{children}</body></html>',
    'app/page.tsx': 'export default () => <p>the rest of your app</p>',
  })
  await run(folder, 'npx', 'next', 'build')
  await use(t, folder, (port) => ['node_modules/next/dist/bin/next', 'start', '-p', port])
})

test(crashAt('log sealed', 'SvelteKit'), { timeout: 600_000 }, async (t) => {
  const route = 'src/routes/hence/[...path]/+server.ts'
  const kit = ['svelte', '@sveltejs/kit', '@sveltejs/adapter-node', '@sveltejs/vite-plugin-svelte']
  const folder = await project(t, [...kit, 'vite', 'zod'], {
    ...own,
    [route]: file(route),
    'src/app.html': '<!doctype html><html><head>%sveltekit.head%</head><body>%sveltekit.body%</body></html>',
    'src/routes/+page.svelte': '<p>the rest of your app</p>',
    'vite.config.ts': `import adapter from '@sveltejs/adapter-node'
import { sveltekit } from '@sveltejs/kit/vite'
import { defineConfig } from 'vite'

export default defineConfig({ plugins: [sveltekit({ adapter: adapter() })] })
`,
  })
  await run(folder, 'npx', 'vite', 'build')
  await use(t, folder, () => ['build'])
})

test(crashAt('log sealed', 'Nest'), { timeout: 600_000 }, async (t) => {
  const nest = ['@nestjs/core', '@nestjs/common', '@nestjs/platform-express', 'reflect-metadata', 'rxjs']
  const types = ['typescript@5.9', '@types/node', '@types/express']
  const options = { target: 'es2022', module: 'nodenext', strict: true, skipLibCheck: true, outDir: 'dist' }
  const folder = await project(t, [...nest, ...types, 'zod'], {
    ...own,
    'main.ts': file('main.ts'),
    'tsconfig.json': JSON.stringify({
      compilerOptions: { ...options, experimentalDecorators: true, emitDecoratorMetadata: true },
      files: ['main.ts'],
    }),
  })
  await run(folder, 'npx', 'tsc')
  await use(t, folder, () => ['dist/main.js'])
})

/** Starts the host, sends a request twice, reads the row, kills the host, and finds the row again. */
async function use(t: TestContext, cwd: string, args: (port: string) => readonly string[]): Promise<void> {
  const port = `${await freePort()}`
  const url = `http://127.0.0.1:${port}`
  const headers = { 'content-type': 'application/json', cookie: 'user=ada', 'idempotency-key': 'k1' }
  const body = JSON.stringify({ account: 'a1', owner: 'ada', cents: 500 })
  const row = { key: ['a1'], value: { owner: 'ada', cents: 500 } }
  for (const replayed of [null, 'true']) {
    const host = spawn(process.execPath, args(port), {
      cwd,
      env: { ...env, PORT: port, HOST: '127.0.0.1' },
      stdio: ['ignore', 'inherit', 'inherit'],
    })
    t.after(() => host.kill('SIGKILL'))
    const rest = await answered(() => fetch(`${url}/`))
    assert.match(await rest.text(), /the rest of your app|kit\.start/)
    const first = await fetch(`${url}/hence/requests/deposit`, { method: 'POST', headers, body })
    assert.deepEqual([first.status, first.headers.get('idempotent-replayed')], [200, replayed])
    const read = await fetch(`${url}/hence/tables/accounts/a1`, { headers })
    assert.deepEqual(await read.json(), row)
    host.kill('SIGKILL')
    await once(host, 'close')
  }
}

async function answered(ask: () => Promise<Response>): Promise<Response> {
  for (;;) {
    try {
      return await ask()
    } catch {
      await setTimeout(100)
    }
  }
}

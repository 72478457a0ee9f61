import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createEngine } from 'hence'
import { createKey, server } from 'hence/server'
import { memoryStorage } from 'hence/testing'
import { limitsDefault } from '../../src/server/limits.ts'
import { freePort } from '../free-port.ts'
import type notes from '../server/notes.ts'
import { serveNotes } from '../server/serve.ts'

// The files in docs/how-to/reverse-proxy.md, run by the real programs. Debian has both: apt-get install
// nginx-light caddy.

const page = await readFile(join(import.meta.dirname, '../../docs/how-to/reverse-proxy.md'), 'utf8')
const documented = (language: string): string => {
  return new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'ms').exec(page)![1]!
}

/** Replaces a part of a documented file that must be in it. */
function replaced(text: string, part: RegExp, by: string): string {
  assert.match(text, part)
  return text.replace(part, by)
}

interface Proxy {
  /** Writes the configuration into a folder. @returns the arguments of the program */
  configure(folder: string, port: number, target: number): Promise<readonly string[]>
}

const proxies: Readonly<Record<string, Proxy>> = {
  nginx: {
    async configure(folder, port, target) {
      let sites = replaced(documented('nginx'), /server 127\.0\.0\.1:4362;/, `server 127.0.0.1:${target};`)
      sites = replaced(sites, /listen 443 ssl;/, `listen 127.0.0.1:${port};`)
      sites = replaced(sites, /( +ssl_certificate.*\n){2}/, '')
      // Short enough to end a stream that is idle.
      sites = replaced(sites, /proxy_read_timeout 5m;/, 'proxy_read_timeout 1s;')
      const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
      const paths = temporary.map((name) => `${name}_temp_path ${folder}/${name};`).join('\n')
      const file = join(folder, 'nginx.conf')
      await writeFile(
        file,
        `daemon off; master_process off; pid ${folder}/pid; error_log stderr;
events {}
http { access_log off; ${paths}
${sites} }`,
      )
      return ['-p', folder, '-c', file, '-e', 'stderr']
    },
  },
  caddy: {
    async configure(folder, port, target) {
      let sites = replaced(documented('caddy'), /shop\.example/, `http://127.0.0.1:${port}`)
      sites = replaced(sites, /127\.0\.0\.1:4362/, `127.0.0.1:${target}`)
      const file = join(folder, 'Caddyfile')
      await writeFile(file, `{\n  admin off\n}\n${sites}`)
      return ['run', '--adapter', 'caddyfile', '--config', file]
    },
  },
}

/** Starts a proxy before a server. @returns its address */
async function before(t: TestContext, name: string, url: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), `hence-${name}-`))
  const port = await freePort()
  const args = await proxies[name]!.configure(folder, port, Number(new URL(url).port))
  await mkdir(join(folder, 'home'))
  const env = { ...process.env, HOME: join(folder, 'home'), XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder }
  const child = spawn(name, args, { env, stdio: ['ignore', 'ignore', 'pipe'] })
  let errors = ''
  child.stderr.on('data', (text) => {
    errors += text
  })
  t.after(async () => {
    await stop(child)
    await rm(folder, { recursive: true, force: true })
  })
  while (!(await listens(port))) assert.equal(child.exitCode, null, errors)
  return `http://127.0.0.1:${port}`
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill()
  await once(child, 'exit')
}

function listens(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const socket = connect(port, '127.0.0.1')
  socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
  return promise.finally(() => socket.destroy())
}

async function served(t: TestContext, name: string) {
  const folder = await mkdtemp(join(tmpdir(), 'hence-keys-'))
  t.after(() => rm(folder, { recursive: true }))
  const keys = join(folder, 'keys.json')
  const { secret } = await createKey(keys, { name: 'k', principal: 'ada', permissions: ['submit', 'read'] })
  const limits = { heartbeatMs: 100, bodyMs: 500 }
  const { url } = await serveNotes(t, { keys, limits })
  const proxied = await before(t, name, url)
  const ask = (path: string, init: RequestInit & { duplex?: 'half' } = {}) =>
    fetch(proxied + path, { ...init, headers: { authorization: `Bearer ${secret}`, ...init.headers } })
  const write = (number: number, text = 'x') =>
    ask('/requests/write', {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': `"n${number}"` },
      body: JSON.stringify({ owner: 'ada', number, text }),
    })
  return { url, proxied, ask, write }
}

async function problemOf(response: Response): Promise<readonly [status: number, code: string]> {
  assert.equal(response.headers.get('content-type'), 'application/problem+json')
  return [response.status, ((await response.json()) as { code: string }).code]
}

for (const name of Object.keys(proxies)) {
  const isInstalled = spawnSync(name, ['-v']).error === undefined
  if (!isInstalled) console.error(`${name} is NOT tested here: it is not installed.`)
  const options = { skip: isInstalled ? false : `${name} is not installed`, timeout: 60_000 }

  test(`${name}: keys and requests`, options, async (t) => {
    const { proxied, write } = await served(t, name)
    assert.deepEqual(await problemOf(await fetch(`${proxied}/tables/notes`)), [401, 'not-authenticated'])
    assert.equal((await write(1)).status, 200)
    const again = await write(1)
    assert.deepEqual([again.status, again.headers.get('idempotent-replayed')], [200, 'true'])
    assert.deepEqual(await problemOf(await write(2, 'x'.repeat(20_001))), [422, 'input-invalid'])
    assert.deepEqual(await problemOf(await write(3, 'x'.repeat(2 ** 20))), [413, 'body-too-large'])
  })

  test(`${name}: a server that is open refuses all that comes through it`, options, async (t) => {
    const engine = await createEngine<typeof notes>({
      app: import.meta.resolve('../server/notes.ts'),
      data: memoryStorage(),
      report: () => {},
    })
    const web = server(engine, { open: true, report: () => {} })
    t.after(async () => {
      await web.close()
      await engine.close()
    })
    const { url } = await web.listen()
    assert.equal((await fetch(`${url}/tables/notes`)).status, 200)
    const proxied = await before(t, name, url)
    assert.deepEqual(await problemOf(await fetch(`${proxied}/tables/notes`)), [403, 'host-refused'])
  })

  test(`${name}: a batch of more than 1 MiB`, options, async (t) => {
    const { ask } = await served(t, name)
    const text = 'x'.repeat(1_500)
    const lines = Array.from({ length: 3_000 }, (_, number) =>
      JSON.stringify({ requestId: `b${number}`, type: 'write', input: { owner: 'ada', number, text } }),
    )
    const headers = { 'content-type': 'application/x-ndjson' }
    const response = await ask('/requests', { method: 'POST', headers, body: lines.join('\n') })
    const answers = (await response.text()).trim().split('\n')
    assert.deepEqual(
      answers.map((line) => JSON.parse(line)).map(({ requestId, status }) => [requestId, status]),
      lines.map((_, number) => [`b${number}`, 'accepted']),
    )
  })

  test(`${name}: a stream arrives event by event, and no idle time ends it`, options, async (t) => {
    const { ask, write } = await served(t, name)
    const reader = (await ask('/changes?table=notes')).body!.pipeThrough(new TextDecoderStream()).getReader()
    let text = ''
    const until = async (isThere: () => boolean) => {
      while (!isThere()) {
        const { done, value } = await reader.read()
        assert.ok(!done, `the stream ended: ${text}`)
        text += value
      }
    }
    await until(() => text.includes('event: open'))
    for (const number of [1, 2]) {
      assert.equal((await write(number)).status, 200)
      await until(() => text.includes(`"number":${number}`) || text.includes(`"ada",${number}`))
    }
    // More comments than the proxy would wait for.
    await until(() => text.split(': here\n').length > 15)
    await reader.cancel()
  })

  // Caddy passes no answer on before a body has ended.
  if (name !== 'nginx') continue
  test(`${name}: a body that stays away`, options, async (t) => {
    const { ask } = await served(t, name)
    const body = new ReadableStream({ start: (controller) => controller.enqueue(Buffer.from('{')) })
    const headers = { 'content-type': 'application/json', 'idempotency-key': 'slow' }
    const response = await ask('/requests/write', { method: 'POST', headers, body, duplex: 'half' })
    assert.deepEqual(await problemOf(response), [408, 'body-too-slow'])
  })
}

test('the documented times fit those of the server', () => {
  const { idleMs, heartbeatMs, afterMs, bodyMs } = limitsDefault
  const ms = (text: string, name: string) => {
    const [, number, unit] = new RegExp(`${name} (\\d+)([sm])`).exec(text)!
    return Number(number) * { s: 1_000, m: 60_000 }[unit as 's' | 'm']
  }
  assert.ok(ms(documented('nginx'), 'keepalive_timeout') < idleMs)
  assert.ok(ms(documented('caddy'), 'keepalive') < idleMs)
  assert.ok(ms(documented('nginx'), 'proxy_read_timeout') > Math.max(heartbeatMs, afterMs, bodyMs))
})

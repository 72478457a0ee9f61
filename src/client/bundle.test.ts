import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { build } from 'esbuild'

// A page is served a bundle of `hence/client` alone. esbuild fails on an import of a Node built-in for a
// browser; the rest is a bound on what comes along.

const entry = (contents: string) => ({
  stdin: { contents, resolveDir: import.meta.dirname, loader: 'ts' as const },
  bundle: true,
  minify: true,
  write: false as const,
  metafile: true as const,
  platform: 'browser' as const,
  format: 'esm' as const,
  logLevel: 'silent' as const,
})

test('the browser build has no Node import, and is small', async () => {
  const built = await build(entry("export { client, connect, indexedDb, memory } from './index.ts'"))
  const [output] = built.outputFiles
  const inputs = Object.keys(built.metafile.inputs)
  const parts = new Set(inputs.filter((path) => path.startsWith('src/')).map((path) => path.split('/')[1]))
  assert.deepEqual([...parts].sort(), ['client', 'clock.ts', 'failure.ts', 'identity.ts', 'same-message.ts'])
  assert.ok(!inputs.some((path) => path.endsWith('file.ts')))
  const text = output!.text
  assert.doesNotMatch(text, /\brequire\(|\bprocess\./)
  assert.ok(text.length < 40_000, `${text.length} characters`)
})

test('the file outbox is not for browsers, and the check above would notice', async () => {
  await assert.rejects(build(entry(`export * from ${JSON.stringify(join(import.meta.dirname, 'file.ts'))}`)))
})

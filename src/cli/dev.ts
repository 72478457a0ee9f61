import { resolve } from 'node:path'
import { performance } from 'node:perf_hooks'
import type { App } from '../app/index.ts'
import type { Engine } from '../engine/engine.ts'
import { loadHandlers } from '../offline/app-module.ts'
import type { AppBundle } from '../sandbox/bundle.ts'
import { command } from './command.ts'
import { versionText } from './reprocess/status-text.ts'
import { engineReport, guardOf, type Served, type ServeOptions, serve, serveOptions } from './serve.ts'
import { summaryLines } from './terminal/diff-format.ts'
import { exitCode } from './terminal/exit-code.ts'
import { paint, printError, printLines } from './terminal/output.ts'
import { stopSignal } from './terminal/stop-signal.ts'
import { fileWatch } from './watch.ts'

export function devCommand() {
  const dev = command(
    'dev',
    'run an app; on save, derive everything again with the new code and show what differs',
    ['hence dev shop.ts', 'hence dev shop.ts --data /tmp/shop --port 4000'],
  ).argument('<app>', 'the module that exports the app, for example shop.ts')
  return serveOptions(dev)
    .addHelpText(
      'after',
      '\nIt derives every record twice and compares. If new code does not build, throws while it loads, ' +
        'or cannot derive the log,\nit prints the error and keeps the old version running. Otherwise it ' +
        'prints what differs and promotes the new code.',
    )
    .runs(async (path: string, given: ServeOptions) => {
      const options = { ...given, open: true } as const
      const stop = stopSignal()
      const module = resolve(path)
      // A signal during the start is an ordinary stop.
      const session = await openSession(await load(module), options, stop.signal).catch((error) => {
        if (error === stop.signal.reason) return undefined
        throw error
      })
      if (session === undefined) return exitCode.ok
      let work = Promise.resolve()
      const watch = fileWatch(() => {
        work = work.then(async () => {
          await session.saved(() => load(module))
          watch.follow(session.files())
        })
      })
      try {
        watch.follow(session.files())
        return await Promise.race([stop.asked.then(() => exitCode.ok), session.stopped])
      } finally {
        watch.close()
        await work
        await session.close()
      }
    })
}

/** Bundles the app from its files as they are now. */
async function load(module: string): Promise<AppBundle> {
  const { bundleApp } = await import('../sandbox/bundle.ts')
  const { sandboxed } = await import('../sandbox/program.ts')
  const code = await bundleApp(module)
  // An error while the code loads is thrown here, where nothing depends on it yet.
  sandboxed(code)
  return code
}

async function openSession(first: AppBundle, options: ServeOptions, stopping: AbortSignal) {
  const { data, partitions, handlers, views: modules = [], json } = options
  const { bundleApp } = await import('../sandbox/bundle.ts')
  const loadViews = () => Promise.all(modules.map((module) => bundleApp(module)))
  let code = first
  let views = await loadViews()
  await guardOf(options)
  const { codeInForce } = await import('../offline/version-in-force.ts')
  const before = await codeInForce(data)
  const { report, stopped } = engineReport(json)
  const { createEngine } = await import('../engine/open-engine.ts')
  const engine = await createEngine({
    app: before ?? code,
    data,
    check: true,
    report,
    // The code in force is unknown here only where there is nothing to compare with.
    onCodeChange: 'reprocess',
    views,
    partitions,
    handlers: await loadHandlers(handlers),
    signal: stopping,
    stopping,
  })
  let served: Served
  try {
    // Code that was saved while nothing ran is promoted before anything is served.
    if (before !== undefined && before.hash !== code.hash) await replaceCode(engine, code, options)
    served = await serve(engine, options, report)
    const listens = `${paint.strong(engine.app.name)} listens on ${paint.strong(served.url)}`
    const event = { event: 'listening', listening: served.url, app: engine.app.name, version: code.hash }
    await say(options, `${listens} ${paint.faint(`(${versionText(code.hash)})`)}`, event)
  } catch (error) {
    await engine.close()
    throw error
  }
  return {
    stopped,
    files: () => [code, ...views].flatMap(({ files }) => files),
    /** Tries the files as they are now. If anything is wrong with them, the running version stays. */
    async saved(load: () => Promise<AppBundle>): Promise<void> {
      try {
        const next = await load()
        if (next.hash !== code.hash) await replaceCode(engine, next, options)
        code = next
        const nextViews = await loadViews()
        const hashes = (of: typeof views) => of.map(({ hash }) => hash).join()
        if (hashes(nextViews) !== hashes(views)) {
          await engine.useViews(nextViews)
          const event = { event: 'views', views: engine.stats().views }
          await say(options, `${paint.good('live')} views`, event)
        }
        views = nextViews
      } catch (error) {
        printError(error, json)
        await say(options, 'The old version keeps running.', { event: 'kept', version: code.hash })
      }
    },
    async close(): Promise<void> {
      await served.close()
      await engine.close()
    },
  }
}

/** Derives everything with other code beside the live generation, prints what differs, and promotes it. */
async function replaceCode(
  { reprocessing }: Engine<App>,
  code: AppBundle,
  options: ServeOptions,
): Promise<void> {
  const startedAt = performance.now()
  const { keepCode } = await import('../offline/code.ts')
  await keepCode(options.data, code)
  // An earlier session may have left one.
  if (await reprocessing.status()) await reprocessing.discard()
  try {
    await reprocessing.start({ version: code.hash }, { share: 1 })
    const { records, failures } = await reprocessing.caughtUp()
    const diff = await reprocessing.diff()
    const ms = Math.round(performance.now() - startedAt)
    const { v7 } = await import('uuid')
    const facts = { version: code.hash, records, ms, failed: failures }
    const lines = [`${records} records derived by ${versionText(code.hash)} in ${ms} ms.`]
    if (failures > 0) lines.push(paint.bad(`${failures} derivations failed.`))
    const text = [...lines, ...summaryLines(diff)].join('\n')
    await say(options, text, { event: 'derived', ...facts, diff })
    const approval = { diff: diff.sha256, note: 'hence dev' }
    await reprocessing.promote(approval, { requestId: v7(), principal: 'dev' })
    const live = { event: 'live', version: code.hash }
    await say(options, `${paint.good('live')} ${versionText(code.hash)}`, live)
  } finally {
    // To go back, one saves the old code.
    if (await reprocessing.status()) await reprocessing.discard()
  }
}

async function say({ json }: ServeOptions, text: string, event: object): Promise<void> {
  await printLines(json ? JSON.stringify(event) : text)
}

import { rename, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { App } from '../app/index.ts'
import { systemClock } from '../clock.ts'
import { comparedCollections, differences } from '../derivation/diff.ts'
import { type DiffSummary, summarise } from '../derivation/diff-summary.ts'
import { sandboxed } from '../derivation/program.ts'
import type { Engine } from '../engine.ts'
import { openEngine } from '../open-engine.ts'
import type { Report, Reporter } from '../report.ts'
import { openLmdbStore } from '../state/lmdb-store.ts'
import { openDirectory, type Storage } from '../storage.ts'
import { loadHandlers } from './app-module.ts'
import { readCode } from './code.ts'
import { command, jsonOption, runs } from './command.ts'
import { formed } from './diff-form.ts'
import { exitCode } from './exit-code.ts'
import { type AppVersion, FreshModule } from './fresh-module.ts'
import { paint, print, printError, printReport } from './output.ts'
import { type Served, type ServeOptions, serve, serveOptions } from './serve.ts'
import { lookAtState } from './state.ts'
import { stopSignal } from './stop-signal.ts'
import { FileWatch } from './watch.ts'

/** `hence dev`: runs an app, and derives everything again whenever its files are saved. */
export function devCommand() {
  const dev = command(
    'dev',
    'run an app; on save, derive everything again with the new code and say what differs',
    ['hence dev shop.ts', 'hence dev shop.ts --data /tmp/shop --port 4000'],
  ).argument('<app>', 'the module that exports the app, such as shop.ts')
  return serveOptions(dev)
    .addOption(jsonOption())
    .addHelpText(
      'after',
      '\nEvery record is derived twice and compared. Code that does not build, throws, or cannot derive what is in the\nlog is told, and the version before it goes on.',
    )
    .action(
      runs(async (path: string, options: ServeOptions, _command: unknown) => {
        const stop = stopSignal()
        const module = new FreshModule(resolve(path))
        const session = await DevSession.open(await module.load(), options)
        let work = Promise.resolve()
        const watch = new FileWatch(() => {
          work = work.then(async () => {
            await session.saved(() => module.load())
            watch.follow(session.files)
          })
        })
        try {
          watch.follow(session.files)
          await Promise.race([stop.asked, session.ended])
        } finally {
          watch.close()
          await work
          await session.close()
        }
        return exitCode.ok
      }),
    )
}

/** What is derived by the new code until it takes the place of what the old code derived. */
const nextState = 'state.next'

/** The version that what is there was derived by. */
interface Compared {
  readonly app: App
  readonly hash: string
}

/** An app that runs, and gives way to its next version. */
class DevSession {
  readonly #options: ServeOptions
  readonly #directory: Storage
  readonly #report: Reporter
  readonly #ended = Promise.withResolvers<never>()
  #version: AppVersion
  #engine: Engine<App> | undefined
  #served: Served | undefined

  static async open(version: AppVersion, options: ServeOptions): Promise<DevSession> {
    const { data, partitions } = options
    const report = printReport(options.json === true)
    // The log stays open from one version to the next, so no other process comes in between.
    const directory = await openDirectory({ directory: data, partitions, clock: systemClock, report })
    const session = new DevSession(version, options, directory, report)
    try {
      const state = await lookAtState(data)
      if (state !== undefined && state.version !== version.code.hash) {
        const before = await readCode(data, state.version).then(
          (code) => ({ app: sandboxed(code).app, hash: state.version }),
          () => undefined,
        )
        await session.#derive(version, before)
      }
      await session.#run()
      return session
    } catch (error) {
      await session.close()
      throw error
    }
  }

  private constructor(version: AppVersion, options: ServeOptions, directory: Storage, report: Reporter) {
    this.#version = version
    this.#options = options
    this.#directory = directory
    this.#report = report
    this.#ended.promise.catch(() => {})
  }

  /** The files to watch. */
  get files(): readonly string[] {
    return this.#version.code.files
  }

  /** Rejects when the app can run no more. */
  get ended(): Promise<never> {
    return this.#ended.promise
  }

  /** Tries the files as they are now. Whatever is wrong with them, the version that ran before runs afterwards. */
  async saved(load: () => Promise<AppVersion>): Promise<void> {
    const before = this.#version
    try {
      const version = await load()
      if (version.code.hash === before.code.hash) return
      await this.#stop()
      await this.#derive(version, { app: before.app, hash: before.code.hash })
      this.#version = version
    } catch (error) {
      printError(error, this.#options.json === true)
      await this.#say('The version before it goes on.', { event: 'kept', version: before.code.hash })
    }
    if (this.#engine) return
    try {
      await this.#run()
    } catch (error) {
      this.#ended.reject(error)
    }
  }

  async close(): Promise<void> {
    await this.#stop()
    await this.#directory.close()
  }

  async #run(): Promise<void> {
    const { app, code } = this.#version
    const { handlers } = this.#options
    this.#engine = await openEngine(
      {
        app,
        data: this.#storage('state'),
        check: true,
        report: this.#report,
        ...(handlers !== undefined && { handlers: await loadHandlers(handlers) }),
      },
      code,
    )
    this.#served = await serve(this.#engine, this.#options, this.#report)
    await this.#say(
      `${paint.strong(app.name)} listens on ${paint.strong(this.#served.url)} ${paint.faint(named(code.hash))}`,
      {
        event: 'listening',
        listening: this.#served.url,
        app: app.name,
        version: code.hash,
      },
    )
  }

  async #stop(): Promise<void> {
    await this.#served?.close()
    this.#served = undefined
    await this.#engine?.close()
    this.#engine = undefined
  }

  /** Derives everything with other code, says what differs, and puts it in the place of what was there. */
  async #derive({ app, code }: AppVersion, before: Compared | undefined): Promise<void> {
    const { data } = this.#options
    const startedAt = performance.now()
    await rm(join(data, nextState), { recursive: true, force: true })
    let failed = 0
    const report = (each: Report) => {
      if (each.code !== 'derivation-failed' || failed++ < failuresShown) this.#report(each)
    }
    const engine = await openEngine({ app, data: this.#storage(nextState), check: true, report }, code)
    const records = engine.stats().replayed
    await engine.close()
    const diff = before && (await this.#compare(before.app, app))
    await rm(join(data, 'state'), { recursive: true, force: true })
    await rename(join(data, nextState), join(data, 'state'))
    const ms = Math.round(performance.now() - startedAt)
    await this.#tell(diff, before?.hash, { version: code.hash, records, ms, failed })
  }

  async #compare(before: App, after: App): Promise<DiffSummary> {
    const open = (name: string, app: App) =>
      openLmdbStore({
        directory: join(this.#options.data, name),
        collections: comparedCollections(app),
        readOnly: true,
      })
    const old = await open('state', before)
    try {
      const fresh = await open(nextState, after)
      try {
        return summarise(differences({ app: before, store: old }, { app: after, store: fresh }))
      } finally {
        await fresh.close()
      }
    } finally {
      await old.close()
    }
  }

  async #tell(
    diff: DiffSummary | undefined,
    before: string | undefined,
    facts: {
      readonly version: string
      readonly records: number
      readonly ms: number
      readonly failed: number
    },
  ): Promise<void> {
    const { version, records, ms, failed } = facts
    const lines = [`${records} records derived by ${named(version)} in ${ms} ms.`]
    if (failed > 0) lines.push(paint.bad(`${failed} derivations failed.`))
    if (diff === undefined) lines.push('What derived them before is not kept, so nothing is compared.')
    else lines.push(formed('text', diff, { before: named(before!), after: named(version) }))
    await this.#say(lines.join('\n'), { event: 'derived', ...facts, ...(diff && { diff }) })
  }

  /** One line for a program, or some for a person. */
  async #say(text: string, told: object): Promise<void> {
    await print(this.#options.json ? JSON.stringify(told) : text)
  }

  /** The directory, with the derived state in a folder of this name; it stays open when an engine closes. */
  #storage(state: string): Storage {
    const directory = this.#directory
    const folder = join(this.#options.data, state)
    return {
      log: directory.log,
      async openStore(_, collections, anew) {
        if (anew) await rm(folder, { recursive: true, force: true })
        return openLmdbStore({ directory: folder, collections })
      },
      dropStore: async () => {},
      keep: (name, text) => directory.keep(name, text),
      kept: (name) => directory.kept(name),
      async close() {},
    }
  }
}

const failuresShown = 5

const named = (version: string) => `version ${version.slice(0, 12)}`

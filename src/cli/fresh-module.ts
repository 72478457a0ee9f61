import { registerHooks } from 'node:module'
import { pathToFileURL } from 'node:url'
import type { App } from '../app/index.ts'
import { type Bundle, bundle } from '../derivation/bundle.ts'
import { sandboxed } from '../derivation/program.ts'
import { loadApp } from './app-module.ts'

/** An app as it was when its files were read: for the engine's realm, and for the sandbox. */
export interface AppVersion {
  readonly app: App
  readonly code: Bundle
}

/** Loads the module of an app again and again, as its files are at the time. */
export class FreshModule {
  readonly #path: string
  #fresh: ReadonlySet<string> = new Set()
  #loads = 0

  constructor(path: string) {
    this.#path = path
    // Node keeps every module that it has loaded under its address, so each loading gets addresses of its own.
    registerHooks({
      resolve: (specifier, context, next) => {
        const resolved = next(specifier, context)
        return this.#fresh.has(resolved.url)
          ? { ...resolved, url: `${resolved.url}?load=${this.#loads}` }
          : resolved
      },
    })
  }

  /** @throws HenceError `bundle-failed`, `app-unusable` (change) */
  async load(): Promise<AppVersion> {
    const code = await bundle(this.#path)
    // What throws while it loads does so here, where nothing depends on it yet.
    sandboxed(code).close()
    const own = code.files.filter((file) => !/[\\/]node_modules[\\/]/.test(file))
    this.#fresh = new Set(own.map((file) => pathToFileURL(file).href))
    this.#loads++
    const { app } = await loadApp(this.#path)
    return { app, code }
  }
}

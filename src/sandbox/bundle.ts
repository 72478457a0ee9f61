import { hash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build, type Message, type Plugin } from 'esbuild'
import type { App } from '../app/index.ts'
import { changeError } from '../failure.ts'
import { passOnStackErrors } from './catches.ts'

/** The pure module of an app and all that it imports, as one script. It may be used any number of times. */
export interface AppBundle<A extends App = App> {
  readonly code: string
  /** SHA-256 of the code, in hexadecimal: the name of this version. */
  readonly hash: string
  /**
   * The files that it was made of: absolute paths, the module and all that it imports. Empty for code that
   * was read from a data directory.
   */
  readonly files: readonly string[]
  /** Always undefined; it carries the type of the app. */
  readonly types?: A | undefined
}

/**
 * An app, named in one of three forms: the path or the file URL of the pure module whose default export it
 * is, or a bundle of that module. A relative path is from the working directory.
 */
export type AppSource<A extends App = App> = string | URL | AppBundle<A>

/** esbuild matches it by itself. Calls of this process for each import took a third of the time. */
const builtins = new RegExp(`^(node:.*|${builtinModules.join('|')})$`)

/** The imports of a pure module must be pure too; `hence` itself is handed in when the bundle is loaded. */
const pureImports: Plugin = {
  name: 'pure-imports',
  setup({ onResolve }) {
    onResolve({ filter: /^hence$/ }, () => ({ path: 'hence', external: true }))
    onResolve({ filter: /^hence\// }, ({ path }) => ({
      errors: [{ text: `"${path}" touches the world: a pure module imports only "hence" itself.` }],
    }))
    const why = 'a derivation must not touch the world. Bring what it needs as the input of a request.'
    onResolve({ filter: builtins }, ({ path }) => ({
      errors: [{ text: `"${path}" is a Node built-in: ${why}` }],
    }))
  },
}

/**
 * Bundles the pure module of an app: `bundleApp<typeof shop>(import.meta.resolve('./shop.ts'))`. A bundle is
 * returned as it is.
 * @throws HenceError `bundle-failed` (change) for a module that cannot be read or resolved, or that imports
 *   a Node built-in
 */
export async function bundleApp<A extends App = App>(app: AppSource<A>): Promise<AppBundle<A>> {
  if (typeof app === 'object' && !(app instanceof URL)) return app
  const path = resolve(/^file:/.test(`${app}`) ? fileURLToPath(app) : `${app}`)
  if (!existsSync(path))
    throw changeError(
      'bundle-failed',
      `There is no file ${path}. Name the module whose default export is the app.`,
    )
  try {
    const result = await build({
      entryPoints: [path],
      absWorkingDir: dirname(path),
      bundle: true,
      write: false,
      metafile: true,
      format: 'cjs',
      platform: 'neutral',
      mainFields: ['module', 'main'],
      conditions: ['import'],
      target: 'es2024',
      // They become generators that call the realm's Promise, which refuses: so no promise escapes it.
      supported: {
        'async-await': false,
        'async-generator': false,
        'for-await': false,
        'dynamic-import': false,
      },
      // Comments and layout are no part of a version; names are kept, since errors show them.
      minifyWhitespace: true,
      legalComments: 'none',
      logLevel: 'silent',
      plugins: [pureImports],
    })
    const code = passOnStackErrors(result.outputFiles[0]!.text)
    return {
      code,
      hash: hash('sha256', code),
      files: Object.keys(result.metafile.inputs).map((file) => resolve(dirname(path), file)),
    }
  } catch (error) {
    const errors = (error as { errors?: Message[] }).errors
    const lines = errors?.map(({ text, location: at }) => (at ? `${at.file}:${at.line}: ${text}` : text))
    throw changeError(
      'bundle-failed',
      `The module ${path} could not be bundled for the sandbox:\n${lines?.join('\n') ?? (error as Error).message}`,
      { cause: error },
    )
  }
}

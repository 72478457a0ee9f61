import { createHash } from 'node:crypto'
import type { App } from '../app/index.ts'
import { HenceError } from '../failure.ts'
import { type Bundle, bundle } from '../sandbox/bundle.ts'
import { hostApp, inProcess, type Program, sandboxed, versionOfApp } from '../sandbox/program.ts'

import { codeName, type Storage } from '../storage/storage.ts'

type Code = Pick<Bundle, 'code' | 'hash'>

/** The code of every version that an engine may derive with: given to it, or kept in the data directory. */
export class Codes {
  readonly #storage: Storage
  /** Apps that run without a sandbox, by version. */
  readonly #apps = new Map<string, App>()
  readonly #given: { readonly app: App; readonly code: Code | undefined; readonly version: string }

  private constructor(
    options: { readonly app: App; readonly earlier?: readonly App[] },
    code: Code | undefined,
    storage: Storage,
  ) {
    this.#storage = storage
    const { app, earlier = [] } = options
    this.#given = { app, code, version: code?.hash ?? versionOfApp(app) }
    if (code === undefined) for (const each of [...earlier, app]) this.#apps.set(versionOfApp(each), each)
  }

  static async open(
    options: { readonly app: App; readonly earlier?: readonly App[] },
    code: Code | undefined,
    storage: Storage,
  ): Promise<Codes> {
    if (code) await storage.keep(codeName(code.hash), code.code)
    return new Codes(options, code, storage)
  }

  /** The version that the engine was opened with. */
  get version(): string {
    return this.#given.version
  }

  /** Whether derivations run in a sandbox. */
  get isSandboxed(): boolean {
    return this.#given.code !== undefined
  }

  /**
   * Adds the code of a version, given in one of three forms.
   * @returns its version
   * @throws HenceError `bundle-failed`, `code-not-kept` (change)
   */
  async add(code: CodeOf): Promise<string> {
    if ('version' in code) {
      ;(await this.programOf(code.version)).close()
      return code.version
    }
    if ('module' in code) {
      const made = await bundle(code.module)
      // Do not keep code that does not load.
      sandboxed(made).close()
      await this.#storage.keep(codeName(made.hash), made.code)
      return made.hash
    }
    const version = versionOfApp(code.app)
    this.#apps.set(version, code.app)
    return version
  }

  /**
   * Loads the code of a version; every call returns a new program.
   * @throws HenceError `code-not-kept` (change)
   */
  async programOf(version: string): Promise<Program> {
    const app = this.#apps.get(version)
    return app ? inProcess(app) : sandboxed(await this.#codeOf(version))
  }

  /** The app of a version for use outside derivations: validation, keys and effects. */
  async hostAppOf(version: string): Promise<App> {
    if (version === this.#given.version) return this.#given.app
    return this.#apps.get(version) ?? hostApp(await this.#codeOf(version))
  }

  async #codeOf(version: string): Promise<Code> {
    const { code: given } = this.#given
    if (given?.hash === version) return given
    return keptCode((name) => this.#storage.kept(name), version)
  }
}

/**
 * The code of a version that the data directory keeps.
 * @throws HenceError `code-not-kept` (change)
 */
export async function keptCode(kept: Storage['kept'], version: string): Promise<Code> {
  const code = await kept(codeName(version))
  if (code !== undefined && createHash('sha256').update(code).digest('hex') === version) {
    return { code, hash: version }
  }
  throw new HenceError(
    'code-not-kept',
    'change',
    `The code of version ${version.slice(0, 12)} is missing in the folder \`code\` of the data directory. ` +
      'Restore it from a copy: without it, the records that it derived cannot be derived again. (An engine without `module` needs the app in `earlier`.)',
  )
}

/** The code of a version, in one of three forms. */
export type CodeOf =
  /** Path or file URL of the pure module of the app, which is bundled. */
  | { readonly module: string }
  /** The hash of a bundle in the folder `code` of the data directory. */
  | { readonly version: string }
  /** An app without a module, for engines that run without a sandbox. */
  | { readonly app: App }

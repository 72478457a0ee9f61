import { createHash } from 'node:crypto'
import type { App } from '../app/index.ts'
import { HenceError } from '../failure.ts'
import { type AppBundle, type AppSource, bundleApp } from '../sandbox/bundle.ts'
import { inProcess, isApp, type Program, sandboxed, versionOfApp } from '../sandbox/program.ts'
import { codeName, type Storage } from '../storage/storage.ts'

/** An app without a module, and its earlier versions: they run without a sandbox. */
interface InProcess {
  readonly app: App
  readonly earlier: readonly App[]
}

/** The code of every version that an engine may derive with: given to it, or kept in the data directory. */
export class Codes {
  readonly #storage: Storage
  /** Apps that run without a sandbox, by version. */
  readonly #apps = new Map<string, App>()
  readonly #given: { readonly version: string; readonly code?: AppBundle; program?: Program | undefined }

  private constructor(given: { code: AppBundle; program: Program } | InProcess, storage: Storage) {
    this.#storage = storage
    if ('code' in given) this.#given = { ...given, version: given.code.hash }
    else {
      this.#given = { version: versionOfApp(given.app) }
      for (const each of [...given.earlier, given.app]) this.#apps.set(versionOfApp(each), each)
    }
  }

  /** @param given with the program that was made of the code */
  static async open(
    given: { readonly code: AppBundle; readonly program: Program } | InProcess,
    storage: Storage,
  ): Promise<Codes> {
    if ('code' in given) await storage.keep(codeName(given.code.hash), given.code.code)
    return new Codes(given, storage)
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
   * Adds the code of a version.
   * @returns its version
   * @throws HenceError `bundle-failed`, `code-not-kept` (change)
   */
  async add(code: CodeOf): Promise<string> {
    if ('version' in code) {
      ;(await this.programOf(code.version)).close()
      return code.version
    }
    const source = 'module' in code ? code.module : code.app
    if (!isApp(source)) {
      const made = await bundleApp(source)
      // Do not keep code that does not load.
      sandboxed(made).close()
      await this.#storage.keep(codeName(made.hash), made.code)
      return made.hash
    }
    const version = versionOfApp(source)
    this.#apps.set(version, source)
    return version
  }

  /**
   * Loads the code of a version; every call returns a new program.
   * @throws HenceError `code-not-kept` (change)
   */
  async programOf(version: string): Promise<Program> {
    const { program } = this.#given
    if (version === program?.version) {
      this.#given.program = undefined
      return program
    }
    const app = this.#apps.get(version)
    return app ? inProcess(app) : sandboxed(await this.#codeOf(version))
  }

  async #codeOf(version: string): Promise<AppBundle> {
    const { code: given } = this.#given
    if (given?.hash === version) return given
    return keptCode((name) => this.#storage.kept(name), version)
  }
}

/**
 * The code of a version that the data directory keeps.
 * @throws HenceError `code-not-kept` (change)
 */
export async function keptCode(kept: Storage['kept'], version: string): Promise<AppBundle> {
  const code = await kept(codeName(version))
  if (code !== undefined && createHash('sha256').update(code).digest('hex') === version) {
    return { code, hash: version, files: [] }
  }
  throw new HenceError(
    'code-not-kept',
    'change',
    `The code of version ${version.slice(0, 12)} is missing in the folder \`code\` of the data directory. ` +
      'Restore it from a copy: without it, the records that it derived cannot be derived again. (An engine without `module` needs the app in `earlier`.)',
  )
}

/** The code of a version: an app, or one that is kept. */
export type CodeOf =
  /** The app: the path or file URL of its pure module, or a bundle. */
  | { readonly app: AppSource | App }
  /** Path or file URL of the pure module of the app, which is bundled. */
  | { readonly module: string }
  /** The hash of a bundle in the folder `code` of the data directory. */
  | { readonly version: string }

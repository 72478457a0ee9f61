import { createHash } from 'node:crypto'
import { changeError } from '../failure.ts'
import { type AppBundle, type AppSource, bundleApp } from '../sandbox/bundle.ts'
import { type Program, sandboxed } from '../sandbox/program.ts'
import { codeName, type Storage } from '../storage/storage.ts'

/** The code of every version that an engine may derive with: given to it, or kept in the data directory. */
export class Codes {
  readonly #storage: Storage
  readonly #given: AppBundle
  /** The next program of its version, until somebody takes it. */
  #program: Program | undefined

  private constructor(given: AppBundle, program: Program, storage: Storage) {
    this.#given = given
    this.#program = program
    this.#storage = storage
  }

  /** @param program made of the given code */
  static async open(given: AppBundle, program: Program, storage: Storage): Promise<Codes> {
    await storage.keep(codeName(given.hash), given.code)
    return new Codes(given, program, storage)
  }

  /** The version that the engine was opened with. */
  get version(): string {
    return this.#given.hash
  }

  /**
   * Adds the code of a version.
   * @returns its version
   */
  async add(code: CodeOf): Promise<string> {
    if ('version' in code) {
      await this.programOf(code.version)
      return code.version
    }
    const made = await bundleApp(code.app)
    // Code that does not load is not kept.
    sandboxed(made)
    await this.#storage.keep(codeName(made.hash), made.code)
    return made.hash
  }

  /** Loads the code of a version for the next call of `programOf`, which then takes no time. */
  async prepare(version: string): Promise<void> {
    this.#program = await this.programOf(version)
  }

  /** Loads the code of a version; every call returns a new program. */
  async programOf(version: string): Promise<Program> {
    const program = this.#program
    if (version === program?.version) {
      this.#program = undefined
      return program
    }
    if (version === this.#given.hash) return sandboxed(this.#given)
    return sandboxed(await keptCode((name) => this.#storage.kept(name), version))
  }
}

/** The code of a version that the data directory keeps. */
export async function keptCode(kept: Storage['kept'], version: string): Promise<AppBundle> {
  const code = await kept(codeName(version))
  if (code !== undefined && createHash('sha256').update(code).digest('hex') === version) {
    return { code, hash: version, files: [] }
  }
  throw changeError(
    'code-not-kept',
    `The code of version ${version.slice(0, 12)} is missing in the folder \`code\` of the data directory. ` +
      'Restore it from a copy: without it, the records that it derived cannot be derived again.',
  )
}

/** The code of a version, in one of two forms. */
export type CodeOf =
  /** The app: the path or file URL of its pure module, or a bundle. */
  | { readonly app: AppSource }
  /** The hash of a bundle in the folder `code` of the data directory. */
  | { readonly version: string }

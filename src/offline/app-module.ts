import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { App } from '../app/index.ts'
import type { Handlers } from '../effect/handlers.ts'
import { changeError } from '../failure.ts'

/** Loads a module whose default export is the handlers of an app's effects. */
export async function loadHandlers(path: string | undefined): Promise<Handlers<App> | undefined> {
  if (path === undefined) return undefined
  const file = resolve(path)
  let exported: unknown
  try {
    await stat(file)
    exported = (await import(pathToFileURL(file).href)).default
  } catch (error) {
    throw unusable(file, `it could not be loaded: ${error instanceof Error ? error.message : error}`, error)
  }
  if (typeof exported === 'object' && exported !== null) return exported as Handlers<App>
  throw unusable(file, 'it does not export `handlers(…)` as its default export')
}

const unusable = (file: string, why: string, cause?: unknown) =>
  changeError(
    'app-unusable',
    `The module ${file} has no handlers: ${why}. Give the path of the module, for example handlers.ts.`,
    { cause },
  )

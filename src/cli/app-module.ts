import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { App } from '../app/index.ts'
import { HenceError } from '../failure.ts'

/**
 * Loads the module that exports an app as its default.
 * @throws HenceError `app-unusable` (change)
 */
export async function loadApp(path: string): Promise<{ readonly app: App; readonly module: string }> {
  const file = resolve(path)
  const module = pathToFileURL(file).href
  let app: unknown
  try {
    await stat(file)
    app = (await import(module)).default
  } catch (error) {
    throw unusable(file, `it could not be loaded: ${error instanceof Error ? error.message : error}`, error)
  }
  if ((app as Partial<App> | undefined)?.requests instanceof Map) return { app: app as App, module }
  throw unusable(file, 'it does not export `app(…)` as its default export')
}

function unusable(file: string, why: string, cause?: unknown): HenceError {
  return new HenceError(
    'app-unusable',
    'change',
    `The module ${file} gives no app: ${why}. Give the pure module of the app, such as shop.ts.`,
    { cause },
  )
}

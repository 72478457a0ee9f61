import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { App } from '../app/index.ts'
import type { Handlers } from '../effect/handlers.ts'
import { HenceError } from '../failure.ts'

/**
 * Loads a module whose default export is an app.
 * @throws HenceError `app-unusable` (change)
 */
export async function loadApp(path: string): Promise<{ readonly app: App; readonly module: string }> {
  const { exported, module } = await load(path, 'app')
  if ((exported as Partial<App> | undefined)?.requests instanceof Map) return { app: exported as App, module }
  throw unusable(path, 'app', 'it does not export `app(…)` as its default export')
}

/**
 * Loads a module whose default export is the handlers of an app's effects.
 * @throws HenceError `app-unusable` (change)
 */
export async function loadHandlers(path: string): Promise<Handlers<App>> {
  const { exported } = await load(path, 'handlers')
  if (typeof exported === 'object' && exported !== null) return exported as Handlers<App>
  throw unusable(path, 'handlers', 'it does not export `handlers(…)` as its default export')
}

async function load(path: string, what: string): Promise<{ exported: unknown; module: string }> {
  const file = resolve(path)
  const module = pathToFileURL(file).href
  try {
    await stat(file)
    return { exported: (await import(module)).default, module }
  } catch (error) {
    throw unusable(
      path,
      what,
      `it could not be loaded: ${error instanceof Error ? error.message : error}`,
      error,
    )
  }
}

function unusable(path: string, what: string, why: string, cause?: unknown): HenceError {
  return new HenceError(
    'app-unusable',
    'change',
    `The module ${resolve(path)} has no ${what}: ${why}. Give the path of the module, for example shop.ts.`,
    { cause },
  )
}

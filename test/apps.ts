import { createHash } from 'node:crypto'
import { type App, type AppBundle, bundleApp } from 'hence'

type AppOf<Export> = Export extends (...args: infer Args) => infer Made
  ? Made extends App
    ? (...args: Args) => Promise<AppBundle<Made>>
    : never
  : Export extends App
    ? () => Promise<AppBundle<Export>>
    : never

/** By module, which is bundled once in a process; and by the code of an app. */
const modules = new Map<string, Promise<AppBundle>>()
const apps = new Map<string, AppBundle>()

/**
 * The apps that a module exports, as bundles:
 * `appsOf<typeof import('./apps/bank.ts')>(import.meta.resolve('./apps/bank.ts'))`. Each is a function
 * without arguments or, where the module exports a function that makes an app, with its arguments, which must
 * be JSON. `default` is the bundle of the module itself.
 */
export function appsOf<Exports extends object>(
  module: string,
): { readonly [Name in keyof Exports]: AppOf<Exports[Name]> } {
  const made = async (name: string, args: readonly unknown[]) => {
    const bundling = modules.get(module) ?? bundleApp(module)
    modules.set(module, bundling)
    if (name === 'default' && args.length === 0) return bundling
    const { code, files } = await bundling
    const given = args.map((arg) => JSON.stringify(arg) ?? 'undefined').join()
    const chosen = `((made)=>typeof made==='function'?made(${given}):made)(module.exports[${JSON.stringify(name)}])`
    const whole = `${code}module.exports={default:${chosen}}`
    const bundle = apps.get(whole) ?? {
      code: whole,
      hash: createHash('sha256').update(whole).digest('hex'),
      files,
    }
    apps.set(whole, bundle)
    return bundle
  }
  return new Proxy({} as never, {
    get:
      (_, name: string) =>
      (...args: unknown[]) =>
        made(name, args),
  })
}

import { constants, createContext, Script } from 'node:vm'
import {
  type App,
  app,
  effect,
  HenceError,
  reject,
  type Scope,
  scopes,
  type View,
  viewsOf,
} from '../app/index.ts'
import { checkViews } from '../app/view.ts'
import { changeError } from '../failure.ts'
import type { AppBundle } from './bundle.ts'
import { passOnStackErrors } from './catches.ts'
import { conversions, promiseMade } from './from-outside.ts'
import { language, missingNames, refuseImpure } from './language.ts'
import { makeRealm, type Realm, refuseNotJson } from './realm.ts'
import { type Deriving, installLanguage } from './realm-language.ts'

/** An app that is ready to derive: its definitions, and the realm that they live in. */
export interface Program extends Loaded {
  readonly app: App
  /** The same code in a new realm, without anything that its modules remember. */
  fresh(): Program
}

/** The views of a module, and the realm that they live in. */
export interface ViewProgram extends Loaded {
  readonly views: ReadonlyMap<string, View>
}

interface Loaded {
  readonly realm: Realm
  /** Names the version of the code: what one version derived, another does not continue unasked. */
  readonly version: string
  /** While it is active, the realm refuses what is not deterministic. */
  readonly deriving: Deriving
}

/** The buffers that one derivation or one validation may make, and the largest that anything else may. */
const bufferBytesMax = 64 * 1024 * 1024

type Wrapped = (
  module: { exports: { default?: unknown } },
  exports: object,
  require: (name: string) => unknown,
) => void

/**
 * Loads a bundle into a realm of its own, with no clock, randomness, timers, network or process. It is a
 * fence against mistakes, not a prison: code that means harm can climb out of `node:vm`.
 * @throws HenceError `bundle-failed` (change) when the module throws while it loads, or exports no app;
 *   `unknown-definition` (change) when it defines something that no app lists
 */
export function sandboxed(bundle: AppBundle): Program {
  const script = scriptOf(bundle)
  const fresh = (): Program => {
    const { exported, ...loaded } = load(script, bundle.hash)
    return { ...loaded, app: checkApp(exported as App | undefined), fresh }
  }
  return fresh()
}

/** Loads a module of views, like the code of an app. */
export function sandboxedViews(bundle: AppBundle): ViewProgram {
  const { exported, ...loaded } = load(scriptOf(bundle), bundle.hash)
  return { ...loaded, views: checkViews(exported) }
}

/** The code is in a function so that `module` and `require` are not globals of the realm. */
function scriptOf({ code, hash }: AppBundle): Script {
  return new Script(`(function (module, exports, require) {'use strict';${code}\n})`, {
    filename: `app-${hash.slice(0, 12)}.js`,
  })
}

function load(script: Script, version: string): Loaded & { readonly exported: unknown } {
  // An ordinary global object: the one that `vm` makes of an object of ours is slow, and cannot be frozen.
  const context = createContext(constants.DONT_CONTEXTIFY, {
    name: 'hence-app',
    codeGeneration: { strings: true, wasm: false },
  })
  // biome-ignore lint/complexity/noBannedTypes: only its source counts.
  const inContext = <F extends Function>(source: F): F => new Script(`(${source})`).runInContext(context)
  const deriving: Deriving = { active: false }
  const slip = (error: unknown) => {
    if (deriving.active) deriving.slip ??= error
    return error
  }
  const refusePromise = () => {
    throw slip(promiseMade())
  }
  const countBuffer = (bytes: number) => {
    // An iterator says its length only when it is read; it is read to a list in the heap first.
    const all = (deriving.bufferBytes ?? 0) + Math.max(bytes, 0)
    if (all > bufferBytesMax) throw slip(buffersTooLarge())
    if (deriving.bufferBytes !== undefined) deriving.bufferBytes = all
  }
  const realm = inContext(makeRealm)(refuseNotJson)
  const freezeGlobals = inContext(installLanguage)({
    deriving,
    language,
    missingNames,
    refuse: refuseImpure,
    refusePromise,
    passOn,
    countBuffer,
    ...conversions,
  })
  const definitions = recordDefinitions()
  const hence = inContext(wrapHence)({
    app: definitions.app as never,
    effect: definitions.effect as never,
    scopes: definitions.scopes as never,
    HenceError: Object.freeze(HenceError),
    reject: ((reason, details) => slip(reject(reason, details))) as typeof reject,
    viewsOf,
  })

  const module: { exports: { default?: unknown } } = { exports: {} }
  try {
    const wrapped: Wrapped = script.runInContext(context)
    wrapped(module, module.exports, (name) => (name === 'hence' ? hence : refuseImpure('require')))
  } catch (error) {
    throw changeError(
      'bundle-failed',
      `The app's module threw while it was loaded: ${error instanceof HenceError ? error.message : error}`,
      { cause: error },
    )
  }
  freezeGlobals()
  definitions.check()
  return { exported: module.exports.default, realm, version, deriving }
}

function passOn(body: string): string {
  if (!/\b(catch|finally)\b/.test(body)) return body
  try {
    return passOnStackErrors(body)
  } catch {
    // It is no script: the realm's own error says so.
    return body
  }
}

/** The module `hence` inside the sandbox: evaluated there, so that its functions are the realm's. */
function wrapHence(hence: Pure): Pure {
  type Fun = (...args: never[]) => unknown
  const wrap = <F extends Fun>(f: F): F => Object.freeze(((...args: never[]) => f(...args)) as F)
  const { app, effect, HenceError, reject, scopes, viewsOf } = hence
  const functions = { app: wrap(app), effect: wrap(effect), reject: wrap(reject), scopes: wrap(scopes) }
  return Object.freeze({ ...functions, HenceError, viewsOf: wrap(viewsOf) })
}

/** The exports of `hence` inside the sandbox. */
type Pure = Pick<
  typeof import('../app/index.ts'),
  'app' | 'effect' | 'HenceError' | 'reject' | 'scopes' | 'viewsOf'
>

const buffersTooLarge = () =>
  changeError(
    'derivation-too-large',
    `The buffers of one derivation, or of one validation, have more than ${bufferBytesMax} bytes: typed arrays, ` +
      'ArrayBuffers and their copies. Keep large content elsewhere and its hash here.',
  )

function checkApp(value: App | undefined): App {
  if (value?.requests instanceof Map) return value
  throw changeError('bundle-failed', "The app's module must export `app(…)` as its default export.")
}

/** The part of a definition that identifies it. */
interface Definition {
  readonly kind: string
  readonly name?: string
  readonly scope?: string
  readonly event?: unknown
  readonly table?: { readonly name: string }
}

/** Which list of `app(…)` a kind of definition belongs to. An event is listed by its reaction. */
const lists: Readonly<Record<string, string>> = {
  table: 'tables',
  event: 'reactions',
  reaction: 'reactions',
  constraint: 'constraints',
  effect: 'effects',
  fill: 'fills',
}

/**
 * `app`, `effect` and `scopes` for one loading of a module, and a check that every definition made by them is
 * listed in an app: that shows at the start, and not by a failed request.
 */
function recordDefinitions() {
  const made = new Set<Definition>()
  const listed = new Set<unknown>()
  const recorded = <D extends Definition>(definition: D): D => {
    made.add(definition)
    return definition
  }
  const recording = (scope: Scope): Scope => ({
    ...scope,
    table: (...args) => recorded(scope.table(...args)),
    event: (...args) => recorded(scope.event(...args)),
    on: (...args) => recorded(scope.on(...args)),
    correct: (...args) => recorded(scope.correct(...args)),
    fill: (...args) => recorded(scope.fill(...args)),
    unique: (...args) => recorded(scope.unique(...args)),
    capacity: (...args) => recorded(scope.capacity(...args)),
  })
  return {
    effect: (...args: Parameters<typeof effect>) => recorded(effect(...args)),
    scopes: (...names: string[]) => scopes(...names).map(recording),
    app(...[name, parts]: Parameters<typeof app>) {
      for (const list of Object.values(parts))
        for (const each of Array.isArray(list) ? list : []) listed.add(each)
      for (const { event } of parts.reactions ?? []) listed.add(event)
      for (const { source } of parts.fills ?? []) listed.add(source)
      return app(name, parts)
    },
    check(): void {
      for (const definition of made) {
        if (listed.has(definition)) continue
        const { kind, name, scope, event, table } = definition
        const { name: of, effect } = (event ?? {}) as { readonly name?: string; readonly effect?: string }
        const what = name ?? table?.name ?? of ?? effect ?? 'corrections'
        throw changeError(
          'unknown-definition',
          `The module defines the ${kind} ${kind === 'reaction' ? 'to ' : ''}"${what}"` +
            `${scope === undefined ? '' : ` of scope "${scope}"`} and no app lists it: add ` +
            `${kind === 'event' ? 'its reaction' : 'it'} to \`${lists[kind]}\` of \`app(…)\`, or remove it.`,
        )
      }
    },
  }
}

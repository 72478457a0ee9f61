import { createHash } from 'node:crypto'
import { constants, createContext, Script } from 'node:vm'
import { type App, app, effect, HenceError, reject, scopes } from '../app/index.ts'
import type { Versioned } from '../app/version.ts'
import type { AppBundle } from './bundle.ts'
import { recordDefinitions } from './definitions.ts'
import { conversions, promiseMade } from './from-outside.ts'
import { installGuard } from './guard.ts'
import { missingNames, refuseImpure } from './impure.ts'
import { language } from './language.ts'
import { mainRealm, makeRealm, type Realm, refuseNotJson } from './realm.ts'
import { type Deriving, installLanguage } from './realm-language.ts'

/** An app that is ready to derive: its definitions, the realm they live in, and the guard around them. */
export interface Program {
  readonly app: App
  readonly realm: Realm
  /** Names the version of the code: what one version derived, another does not continue unasked. */
  readonly version: string
  /** While it is true, the guards of the realm refuse what is not deterministic. */
  readonly deriving: Deriving
  /** The same code in a new realm, without anything that its modules remember; itself where there is none. */
  fresh(): Program
  /** Takes the guards off. */
  close(): void
}

type Wrapped = (
  module: { exports: { default?: App } },
  exports: object,
  require: (name: string) => unknown,
) => void

/**
 * Loads a bundle into a realm of its own, with no clock, randomness, timers, network or process. It runs in strict mode.
 *
 * It is a fence against mistakes, not a prison: code that means harm can climb out of `node:vm`.
 * @throws HenceError `bundle-failed` (change) when the module throws while it loads, or exports no app;
 *   `unknown-definition` (change) when it defines something that no app lists
 */
export function sandboxed(bundle: Pick<AppBundle, 'code' | 'hash'>): Program {
  // The code is in a function so that `module` and `require` are not globals of the realm.
  const script = new Script(`(function (module, exports, require) {'use strict';${bundle.code}\n})`, {
    filename: `app-${bundle.hash.slice(0, 12)}.js`,
  })
  return load(script, bundle.hash)
}

function load(script: Script, version: string): Program {
  // An ordinary global object: the one that `vm` makes of an object of ours is slow, and cannot be frozen.
  const context = createContext(constants.DONT_CONTEXTIFY, {
    name: 'hence-app',
    codeGeneration: { strings: true, wasm: false },
  })
  // biome-ignore lint/complexity/noBannedTypes: only its source counts.
  const inContext = <F extends Function>(source: F): F => new Script(`(${source})`).runInContext(context)
  const deriving: Deriving = { active: false }
  const refusePromise = () => {
    const error = promiseMade()
    if (deriving.active) deriving.slip ??= error
    throw error
  }
  const realm = inContext(makeRealm)(refuseNotJson)
  const freezeGlobals = inContext(installLanguage)({
    deriving,
    language,
    missingNames,
    refuse: refuseImpure,
    refusePromise,
    ...conversions,
  })
  const definitions = recordDefinitions()
  const hence = inContext(wrapHence)({
    app: definitions.app as never,
    effect: definitions.effect as never,
    scopes: definitions.scopes as never,
    HenceError: Object.freeze(HenceError),
    reject: ((reason, details) => {
      const rejection = reject(reason, details)
      if (deriving.active) deriving.slip ??= rejection
      return rejection
    }) as typeof reject,
  })

  const module: { exports: { default?: App } } = { exports: {} }
  try {
    const wrapped: Wrapped = script.runInContext(context)
    wrapped(module, module.exports, (name) => (name === 'hence' ? hence : refuseImpure('require')))
  } catch (error) {
    throw new HenceError(
      'bundle-failed',
      'change',
      `The app's module threw while it was loaded: ${error instanceof HenceError ? error.message : error}`,
      { cause: error },
    )
  }
  freezeGlobals()
  const app = checkApp(module.exports.default)
  definitions.check()
  return { app, realm, version, deriving, fresh: () => load(script, version), close() {} }
}

/** The module `hence` inside the sandbox: evaluated there, so that its functions are the realm's. */
function wrapHence(hence: Pure): Pure {
  type Fun = (...args: never[]) => unknown
  const wrap = <F extends Fun>(f: F): F => Object.freeze(((...args: never[]) => f(...args)) as F)
  const { app, effect, HenceError, reject, scopes } = hence
  return Object.freeze({
    app: wrap(app),
    effect: wrap(effect),
    HenceError,
    reject: wrap(reject),
    scopes: wrap(scopes),
  })
}

type Pure = typeof pure

/** The exports of `hence` inside the sandbox. */
const pure = { app, effect, HenceError, reject, scopes }

/** Whether a value is an app, and no name or bundle of one. */
export function isApp(value: unknown): value is App {
  return (value as App | undefined)?.requests instanceof Map
}

function checkApp(value: App | undefined): App {
  if (isApp(value)) return value
  throw new HenceError(
    'bundle-failed',
    'change',
    "The app's module must export `app(…)` as its default export.",
  )
}

const mainDeriving: Deriving = { active: false }
let guarded = 0
let unguard = () => {}

/**
 * Runs an app in the realm of the process, under guards: for tests, and for apps that cannot be bundled.
 * Its version is made of the sources of its functions and the shapes of its tables; a change in what those
 * functions call goes unnoticed, which is one reason to prefer the sandbox.
 */
export function inProcess(definitions: App): Program {
  if (guarded++ === 0)
    unguard = installGuard({ deriving: mainDeriving, refuse: refuseImpure, takenNames: missingNames }, true)
  let closed = false
  const program: Program = {
    app: definitions,
    realm: mainRealm,
    version: versionOfApp(definitions),
    deriving: mainDeriving,
    fresh: () => program,
    close() {
      if (!closed && --guarded === 0) unguard()
      closed = true
    },
  }
  return program
}

/** The version of an app that runs without a sandbox: see `inProcess`. */
export function versionOfApp({
  name,
  requests,
  events,
  reactions,
  tables,
  constraints,
  effects,
}: App): string {
  const parts: unknown[] = [name]
  for (const request of requests.values()) {
    const { scope, name, key, claims, derive, compensate } = request
    parts.push([scope, name, versionsOf(request), `${key}`, `${claims}`, `${derive}`, `${compensate}`])
  }
  for (const event of events.values())
    parts.push([event.scope, event.name, versionsOf(event), `${event.key}`])
  for (const [name, { scope, react }] of reactions) parts.push([scope, name, `${react}`])
  for (const { scope, name, parts: kinds, indexes } of tables.values())
    parts.push([scope, name, kinds, indexes])
  parts.push([...constraints.values()], [...effects.keys()])
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex')
}

function versionsOf({ version, upcast }: Versioned): unknown[] {
  return [version, Object.entries(upcast).map(([from, step]) => [from, `${step}`])]
}

import { constants, createContext, Script } from 'node:vm'
import { type App, type app, type effect, HenceError, reject, type scopes } from '../app/index.ts'
import type { AppBundle } from './bundle.ts'
import { recordDefinitions } from './definitions.ts'
import { conversions, promiseMade } from './from-outside.ts'
import { missingNames, refuseImpure } from './impure.ts'
import { language } from './language.ts'
import { makeRealm, type Realm, refuseNotJson } from './realm.ts'
import { type Deriving, installLanguage } from './realm-language.ts'

/** An app that is ready to derive: its definitions, and the realm that they live in. */
export interface Program {
  readonly app: App
  readonly realm: Realm
  /** Names the version of the code: what one version derived, another does not continue unasked. */
  readonly version: string
  /** While it is active, the realm refuses what is not deterministic. */
  readonly deriving: Deriving
  /** The same code in a new realm, without anything that its modules remember. */
  fresh(): Program
}

/** The buffers that one derivation or one validation may make, and the largest that anything else may. */
const bufferBytesMax = 64 * 1024 * 1024

type Wrapped = (
  module: { exports: { default?: App } },
  exports: object,
  require: (name: string) => unknown,
) => void

/**
 * Loads a bundle into a realm of its own, with no clock, randomness, timers, network or process. It runs in
 * strict mode.
 *
 * It is a fence against mistakes, not a prison: code that means harm can climb out of `node:vm`.
 * @throws HenceError `bundle-failed` (change) when the module throws while it loads, or exports no app;
 *   `unknown-definition` (change) when it defines something that no app lists
 */
export function sandboxed(bundle: AppBundle): Program {
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
  const countBuffer = (bytes: number) => {
    // An iterator says its length only when it is read; it is read to a list in the heap first.
    const all = (deriving.bufferBytes ?? 0) + Math.max(bytes, 0)
    if (all > bufferBytesMax) {
      const error = buffersTooLarge()
      if (deriving.active) deriving.slip ??= error
      throw error
    }
    if (deriving.bufferBytes !== undefined) deriving.bufferBytes = all
  }
  const realm = inContext(makeRealm)(refuseNotJson)
  const freezeGlobals = inContext(installLanguage)({
    deriving,
    language,
    missingNames,
    refuse: refuseImpure,
    refusePromise,
    countBuffer,
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
  return { app, realm, version, deriving, fresh: () => load(script, version) }
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

/** The exports of `hence` inside the sandbox. */
interface Pure {
  readonly app: typeof app
  readonly effect: typeof effect
  readonly HenceError: typeof HenceError
  readonly reject: typeof reject
  readonly scopes: typeof scopes
}

function buffersTooLarge(): HenceError {
  return new HenceError(
    'derivation-too-large',
    'change',
    `The buffers of one derivation, or of one validation, have more than ${bufferBytesMax} bytes: typed arrays, ` +
      'ArrayBuffers and their copies. Keep large content elsewhere and its hash here.',
  )
}

function checkApp(value: App | undefined): App {
  if (value?.requests instanceof Map) return value
  throw new HenceError(
    'bundle-failed',
    'change',
    "The app's module must export `app(…)` as its default export.",
  )
}

import { changeError } from '../failure.ts'
/**
 * The language of an app's realm: an allow-list of the language's globals and of their members. Anything
 * else, also a name that a later version of the engine adds, is removed from the realm before the app's code
 * runs. It is ECMAScript 2024 with the iterator helpers and set methods, without the clock and the zone,
 * randomness, `Intl`, `Temporal`, `eval`, promises, shared memory, weak references whose targets can be asked
 * for, resizable buffers, and the static properties of `RegExp` that remember the last match.
 *
 * A path names an object by the way to it from the global object; only syntax reaches `%…%`.
 */
export const language: Readonly<Record<string, string>> = {
  globalThis:
    'globalThis Infinity NaN undefined isFinite isNaN parseFloat parseInt decodeURI decodeURIComponent encodeURI ' +
    'encodeURIComponent Object Function Boolean Symbol Error AggregateError EvalError RangeError ReferenceError ' +
    'SyntaxError TypeError URIError Number BigInt Math Date String RegExp Array Int8Array Uint8Array ' +
    'Uint8ClampedArray Int16Array Uint16Array Int32Array Uint32Array BigInt64Array BigUint64Array Float32Array ' +
    'Float64Array Map Set WeakMap WeakSet ArrayBuffer DataView JSON Iterator Reflect Proxy Promise',
  Object:
    'assign create defineProperties defineProperty entries freeze fromEntries getOwnPropertyDescriptor ' +
    'getOwnPropertyDescriptors getOwnPropertyNames getOwnPropertySymbols getPrototypeOf groupBy hasOwn is ' +
    'isExtensible isFrozen isSealed keys preventExtensions seal setPrototypeOf values',
  'Object.prototype':
    'hasOwnProperty isPrototypeOf propertyIsEnumerable toLocaleString toString valueOf __proto__ __defineGetter__ ' +
    '__defineSetter__ __lookupGetter__ __lookupSetter__',
  Function: '',
  'Function.prototype': 'apply bind call toString',
  Boolean: '',
  'Boolean.prototype': 'toString valueOf',
  Symbol:
    'for keyFor asyncIterator hasInstance isConcatSpreadable iterator match matchAll replace search species split ' +
    'toPrimitive toStringTag unscopables',
  'Symbol.prototype': 'description toString valueOf',
  Error: 'captureStackTrace',
  'Error.prototype': 'message name toString',
  ...ofEach('Aggregate Eval Range Reference Syntax Type URI', (kind) => [
    [`${kind}Error`, ''],
    [`${kind}Error.prototype`, 'message name'],
  ]),
  Number:
    'EPSILON MAX_SAFE_INTEGER MAX_VALUE MIN_SAFE_INTEGER MIN_VALUE NaN NEGATIVE_INFINITY POSITIVE_INFINITY isFinite ' +
    'isInteger isNaN isSafeInteger parseFloat parseInt',
  'Number.prototype': 'toExponential toFixed toLocaleString toPrecision toString valueOf',
  BigInt: 'asIntN asUintN',
  'BigInt.prototype': 'toLocaleString toString valueOf',
  Math:
    'E LN10 LN2 LOG10E LOG2E PI SQRT1_2 SQRT2 abs acos acosh asin asinh atan atan2 atanh cbrt ceil clz32 ' +
    'cos cosh exp expm1 floor fround hypot imul log log10 log1p log2 max min pow random round sign sin ' +
    'sinh sqrt tan tanh trunc',
  Date: 'UTC now parse',
  'Date.prototype':
    'getTime getUTCDate getUTCDay getUTCFullYear getUTCHours getUTCMilliseconds getUTCMinutes getUTCMonth ' +
    'getUTCSeconds setTime setUTCDate setUTCFullYear setUTCHours setUTCMilliseconds setUTCMinutes setUTCMonth ' +
    'setUTCSeconds toISOString toJSON toUTCString valueOf getDate getDay getFullYear getHours getMilliseconds ' +
    'getMinutes getMonth getSeconds getTimezoneOffset setDate setFullYear setHours setMilliseconds setMinutes ' +
    'setMonth setSeconds toDateString toLocaleDateString toLocaleString toLocaleTimeString toString toTimeString',
  String: 'fromCharCode fromCodePoint raw',
  'String.prototype':
    'at charAt charCodeAt codePointAt concat endsWith includes indexOf isWellFormed lastIndexOf length localeCompare ' +
    'match matchAll normalize padEnd padStart repeat replace replaceAll search slice split startsWith substr ' +
    'substring toLocaleLowerCase toLocaleUpperCase toLowerCase toString toUpperCase toWellFormed trim trimEnd ' +
    'trimLeft trimRight trimStart valueOf',
  RegExp: '',
  'RegExp.prototype':
    'dotAll exec flags global hasIndices ignoreCase multiline source sticky test toString unicode unicodeSets',
  Array: 'from isArray of',
  'Array.prototype':
    'at concat copyWithin entries every fill filter find findIndex findLast findLastIndex flat flatMap forEach ' +
    'includes indexOf join keys lastIndexOf length map pop push reduce reduceRight reverse shift slice some sort ' +
    'splice toLocaleString toReversed toSorted toSpliced toString unshift values with',
  '%TypedArray%': 'from of',
  '%TypedArray%.prototype':
    'at buffer byteLength byteOffset copyWithin entries every fill filter find findIndex findLast findLastIndex ' +
    'forEach includes indexOf join keys lastIndexOf length map reduce reduceRight reverse set slice some sort ' +
    'subarray toLocaleString toReversed toSorted toString values with',
  ...ofEach(
    'Int8 Uint8 Uint8Clamped Int16 Uint16 Int32 Uint32 BigInt64 BigUint64 Float32 Float64',
    (kind) => [
      [`${kind}Array`, 'BYTES_PER_ELEMENT'],
      [`${kind}Array.prototype`, 'BYTES_PER_ELEMENT'],
    ],
  ),
  Map: 'groupBy',
  'Map.prototype': 'clear delete entries forEach get has keys set size values',
  Set: '',
  'Set.prototype':
    'add clear delete difference entries forEach has intersection isDisjointFrom isSubsetOf isSupersetOf keys size ' +
    'symmetricDifference union values',
  WeakMap: '',
  'WeakMap.prototype': 'delete get has set',
  WeakSet: '',
  'WeakSet.prototype': 'add delete has',
  ArrayBuffer: 'isView',
  'ArrayBuffer.prototype': 'byteLength slice',
  DataView: '',
  'DataView.prototype':
    'buffer byteLength byteOffset getBigInt64 getBigUint64 getFloat32 getFloat64 getInt16 getInt32 getInt8 getUint16 ' +
    'getUint32 getUint8 setBigInt64 setBigUint64 setFloat32 setFloat64 setInt16 setInt32 setInt8 setUint16 ' +
    'setUint32 setUint8',
  JSON: 'parse stringify',
  Iterator: 'from',
  'Iterator.prototype': 'drop every filter find flatMap forEach map reduce some take toArray',
  Reflect:
    'apply construct defineProperty deleteProperty get getOwnPropertyDescriptor getPrototypeOf has isExtensible ' +
    'ownKeys preventExtensions set setPrototypeOf',
  Proxy: 'revocable',
  '%GeneratorFunction%.prototype': 'prototype',
  '%AsyncFunction%.prototype': '',
  '%AsyncGeneratorFunction%.prototype': 'prototype',
  '%Generator%.prototype': 'next return throw',
  '%AsyncGenerator%.prototype': 'next return throw',
  '%AsyncIterator%.prototype': '',
  '%ArrayIterator%.prototype': 'next',
  '%MapIterator%.prototype': 'next',
  '%SetIterator%.prototype': 'next',
  '%StringIterator%.prototype': 'next',
  '%RegExpStringIterator%.prototype': 'next',
  '%IteratorHelper%.prototype': 'next return',
  '%WrappedIterator%.prototype': 'next return',
}

function ofEach(kinds: string, paths: (kind: string) => [path: string, members: string][]) {
  return Object.fromEntries(kinds.split(' ').flatMap(paths))
}

/** Names that are absent from the realm, each with its replacement. */
const instead: Readonly<Record<string, string>> = {
  Date: 'tx.now, the log time of the record',
  'Math.random': 'tx.random()',
  crypto: 'tx.uuid() and tx.random(); hash outside and send the result as input',
  performance: 'tx.now, the log time of the record',
  process: 'an input of the request: the environment differs from machine to machine',
  fetch: 'a request that brings what you need as its input',
  WebSocket: 'a request that brings what you need as its input',
  EventSource: 'a request that brings what you need as its input',
  XMLHttpRequest: 'a request that brings what you need as its input',
  setTimeout: 'tx.schedule(): a derivation is synchronous',
  setInterval: 'tx.schedule(): a derivation is synchronous',
  setImmediate: 'plain code: a derivation is synchronous',
  queueMicrotask: 'plain code: a derivation is synchronous',
  Intl: 'plain code: locale data differs from machine to machine',
  Temporal:
    'numbers of milliseconds, the UTC methods of Date, or a library: Temporal depends on zone and locale data',
  locale: 'the methods without "Locale" in their names: locale data differs from machine to machine',
  'local time':
    'the UTC methods, or ISO 8601 text with "Z" or an offset: the time zone differs from machine to machine',
  URL: 'host names in ASCII: how others are written depends on the version of Unicode',
  WeakRef: 'a table: when garbage is collected differs from run to run',
  FinalizationRegistry: 'a table: when garbage is collected differs from run to run',
  SharedArrayBuffer: 'a table',
  Atomics: 'a table',
  WebAssembly: 'plain code',
  eval: 'plain code',
  navigator: 'an input of the request',
  localStorage: 'a table',
  sessionStorage: 'a table',
  require: 'an import at the top of the module',
  global: 'globalThis',
}

/** Names that the realm lacks. A module may look for them while it loads; a derivation that does is refused. */
export const missingNames: readonly string[] = Object.keys(instead).filter(
  (name) => /^\w+$/.test(name) && !['Date', 'URL', 'locale'].includes(name),
)

/** @throws HenceError `impure` (change), always; it says what to use instead */
export function refuseImpure(what: string): never {
  const use = instead[what.split(' (')[0]!] ?? 'what tx offers'
  throw changeError('impure', `A derivation used ${what}. Use ${use}.`)
}

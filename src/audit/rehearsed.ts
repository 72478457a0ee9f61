import { type KeyObject, sign, verify } from 'node:crypto'
import { readHead, type SignedHead } from './head.ts'

/** A state that was derived again from the log, and found equal to the live one. */
export interface Rehearsed {
  readonly generation: number
  /** The version of the code that was in force at the end. */
  readonly version: string
  /** By partition: up to where. */
  readonly positions: readonly number[]
  /** One hash over everything that is derived; see the glossary. */
  readonly imprint: string
  /** The views whose rows were folded again, and found equal. */
  readonly views: readonly {
    readonly name: string
    /** The hash of its module. */
    readonly version: string
    /** By partition: up to where they were folded. */
    readonly positions: readonly number[]
    /** SHA-256 of the rows. */
    readonly sha256: string
  }[]
}

/** When a rehearsal ended, and a head that covers the records. */
interface SignedRehearsal extends Rehearsed {
  readonly time: number
  readonly head: SignedHead
}

/**
 * A rehearsal, signed with the key of its log, one line of JSON:
 *
 *   {"format":"hence-rehearsal","version":1,"time":…,"code":"…","generation":0,"positions":[3],"imprint":"…",
 *   "views":[…],"head":{…},"signature":"…"}
 *
 * The signature is that of a head: over the same line without its last member.
 */
export function signRehearsal(key: KeyObject, rehearsal: SignedRehearsal): string {
  const { time, version: code, ...rest } = rehearsal
  const text = JSON.stringify({ format: 'hence-rehearsal', version: 1, time, code, ...rest })
  const signature = sign(null, Buffer.from(text), key).toString('base64')
  return `${text.slice(0, -1)},"signature":"${signature}"}`
}

/** Reads a line that one of these keys has signed; undefined if none has. */
export function readRehearsal(keys: readonly KeyObject[], line: string): SignedRehearsal | undefined {
  const [, begin, signature] =
    /^(\{"format":"hence-rehearsal","version":1,.*),"signature":"([\w+/=]+)"\}$/.exec(line) ?? []
  if (begin === undefined) return undefined
  const text = `${begin}}`
  const isSigned = (key: KeyObject) => verify(null, Buffer.from(text), key, Buffer.from(signature!, 'base64'))
  if (!keys.some(isSigned)) return undefined
  const { code: version, head, ...rest } = JSON.parse(text)
  return { ...rest, version, head: readHead(head) }
}

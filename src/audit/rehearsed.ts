import { type KeyObject, sign, verify } from 'node:crypto'
import { parseHead, type SignedHead } from './head.ts'

/** A state that was derived again from the log, and found equal to the live one. */
export interface Rehearsed {
  readonly generation: number
  /** The version of the code that was in force at the end. */
  readonly version: string
  /** By partition: up to where. */
  readonly positions: readonly number[]
  /** One hash over everything that is derived; see the glossary. */
  readonly imprint: string
}

/** When a rehearsal ended, and a head that covers the records. */
interface SignedRehearsal extends Rehearsed {
  readonly time: number
  readonly head: SignedHead
}

/**
 * A rehearsal, signed with the key of its log, one line of JSON:
 *
 *   {"format":"hence-rehearsal","version":1,"time":…,"generation":0,"code":"…","positions":[3],"imprint":"…",
 *   "head":{…},"signature":"…"}
 *
 * The signature is that of a head: over the same line without its last member.
 */
export function signRehearsal(key: KeyObject, rehearsal: SignedRehearsal): string {
  const { time, generation, version: code, positions, imprint, head } = rehearsal
  const is = { format: 'hence-rehearsal', version: 1, time, generation, code, positions, imprint, head }
  const text = JSON.stringify(is)
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
  return { ...rest, version, head: parseHead(JSON.stringify(head)) }
}

// This file is longer than 400 lines, because each record's layout stands above the code that reads and
// writes it.
import { operatorError } from '../failure.ts'

/**
 * A record of the log, as bytes. All integers are little-endian; text is UTF-8 unless it says latin1.
 *
 * Request: a client's wish, as it was admitted.
 *
 *   0        1        2                 4                 6                 8
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | kind=1 | flags  | identity bytes  |   type bytes    |     version     |
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | input bytes                       | identity | type | input  | output | in reply to | its bytes (1)
 *   +--------+--------+--------+--------+----------+------+--------+--------+-------------+---------------
 *     flags bit 0: an output follows the input; bit 1: it names what it replies to, and the last byte says in
 *     how many bytes
 *     version: of the schema that admitted it
 *
 * Event: a message that a derivation emitted to another partition.
 *
 *   0        1        2                 4                 6                 8
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | kind=2 | flags  |   generation    | cause partition | root partition  |
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   |      depth      | identity bytes  |   type bytes    |    key bytes    |   8
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | channel number (u64)                                                  |  16
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | cause offset (u64)                                                    |  24
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | root offset (u64)                                                     |  32
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | event id (16 bytes)                                                   |  40
 *   |                                                                       |  48
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   |     version     | reserved, zero  | identity (of the root request) | …   56
 *   +--------+--------+-----------------+----------+------+-----+------------
 *   | type | key | data, to the end
 *   +------+-----+---------------------
 *     version: of the definition that emitted it
 *
 * Tick: brings the time to a partition without other records, so that its timers fire.
 *
 *   0        1        2                 4                                   8
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | kind=4 | flags  |                  reserved, zero                     |
 *   +--------+--------+-----------------------------------------------------+
 *
 * Result: the result of an effect.
 *
 *   0        1        2                 4                                   8
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | kind=5 | flags  |    id bytes     |      tries      |       ms        |
 *   +--------+--------+-----------------+-----------------+-----------------+
 *   | hash of the input that it answers (16 bytes)                          |   8
 *   |                                                                       |  16
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | id | result or error, to the end                                         24
 *   +----+-----------------------------
 *     flags bit 0: the effect was given up, and the text is the error; otherwise it was done, and the text is JSON
 *
 * Control: from here on other code is in force, or another generation is live. Every partition has it.
 * Correction: a difference between two generations, for the promoted one.
 * Ruling: a derivation that did not end, or ended its process, counts as failed. It binds its generation and
 * those with a greater number.
 * Mark: a derivation took long and ended, so nothing may rule it out later.
 * Watermark: ids older than a time are forgotten in this partition.
 * Filled: rows of a table that the code before lacked, for that generation.
 *
 *   0        1        2                 4                                   8
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   |  kind  | flags  |   generation    |          reserved, zero           |
 *   +--------+--------+-----------------+-----------------------------------+
 *   | JSON text, to the end                                                   8
 *   +------------------------------
 *     kind 3: control; 6: correction; 7: ruling; 8: mark; 9: watermark; 10: filled; flags are reserved and zero
 *
 * A reader stops at a kind or flag that it does not know; it never skips one. Flag bit 7 is reserved in every
 * kind for an area of extension fields.
 */
export type LogRecord =
  | RequestRecord
  | EventRecord
  | TickRecord
  | ResultRecord
  | ControlRecord
  | CorrectionRecord
  | RulingRecord
  | MarkRecord
  | WatermarkRecord
  | FilledRecord

export interface RequestRecord {
  readonly kind: 'request'
  /** Principal and request id in one; see `identity.ts`. A latin1 string. */
  readonly identity: string
  readonly type: string
  /** The version of the type whose schema admitted it. */
  readonly version: number
  /** The input as it was sent: JSON text. */
  readonly input: string
  /** The input after the schema, where that differs from the input as it was sent: JSON text. */
  readonly output: string | undefined
  /** The id of the request, effect or violation that it replies to. */
  readonly inReplyTo?: string
  /** The value of `output` or else `input`, frozen, in a realm; if it is at hand. The log does not have it. */
  readonly parsed?: { readonly realm: object; readonly value: unknown } | undefined
}

export interface EventRecord {
  readonly kind: 'event'
  /** The generation that emitted it, which was live at the time: 0 until another is promoted. */
  readonly generation: number
  /** The record whose derivation emitted it. `causePartition` is also the source of the channel. */
  readonly causePartition: number
  readonly causeOffset: number
  /** The request at the beginning of the chain. */
  readonly rootPartition: number
  readonly rootOffset: number
  /** The identity of that request. A latin1 string. */
  readonly identity: string
  /** The number of events from the request to this one, itself included. */
  readonly depth: number
  readonly type: string
  /** The version of the type of its data. */
  readonly version: number
  /** The partition key of its target. */
  readonly key: string
  /** Its number in the channel from the cause's partition to this one, from 0 without gaps. */
  readonly channelNumber: number
  /** Deterministic, 16 bytes as a latin1 string: the same on every replay and for any number of partitions. */
  readonly id: string
  /** JSON text. */
  readonly data: string
}

/** An event that its target has not applied. */
export interface SentEvent {
  readonly record: EventRecord
  readonly bytes: Buffer
  /** Log time of its cause, in milliseconds since 1970. */
  readonly time: number
}

/** The events of one source for a partition, by number. */
export interface EventSpan {
  readonly source: number
  /** How many events the partition has applied: the number that it expects next. */
  readonly applied: number
  /** The number of the next event that the source sends. */
  readonly next: number
}

interface TickRecord {
  readonly kind: 'tick'
}

export interface ResultRecord {
  readonly kind: 'result'
  /** The effect's id: visible ASCII. */
  readonly effect: string
  /** The hash of the input that it answers; see `inputHash`. A latin1 string of 16 bytes. */
  readonly input: string
  /** Whether it was done; otherwise it was given up. */
  readonly done: boolean
  /** The number of tries, 65,535 at most. */
  readonly tries: number
  /** How long the last try took in milliseconds, 65,535 at most; 0 if that is not known. */
  readonly ms: number
  /** The result of its handler as JSON text, or the error of the last try. */
  readonly text: string
}

/** Written to every partition when nothing is under way: all records before it are derived before any after it. */
export interface ControlRecord {
  readonly kind: 'control'
  readonly generation: number
  readonly control: Control
}

/**
 * The number of Hence's own rules of deriving, which decide with the app's code what a log derives. Raise it
 * when a change would derive something else from an existing log. 2: a key is serial across waits; a result
 * reaches one input. 3: messages about claims are named by the claims, and those of a key's judge to that key
 * keep their order. The latter came after the former; as nothing had been published, and no log of others can
 * hold what stood between, one number covers both. 4: a version record may have filled rows.
 */
export const rulesNow = 4
/** From these rules on, a log derives the same by the present ones. */
export const rulesOldest = 3

/** `number` counts the control records of a log, from 0 without gaps. */
type Control =
  | {
      /** The code of the generation is this version from here on. */
      readonly type: 'version'
      readonly number: number
      /** SHA-256 of the bundle, in hexadecimal. */
      readonly version: string
      /** Hence's own rules of deriving from here on: see `rulesNow`. */
      readonly rules: number
      /** The version that was in force until here; left out at the beginning of a log. */
      readonly before?: string
      /** By partition: how many records of filled rows follow; left out if none do. */
      readonly filled?: readonly number[]
    }
  | {
      /** The generation is live from here on. */
      readonly type: 'promotion'
      readonly number: number
      /** The version of its code at the beginning of the log. */
      readonly base: string
      /** The version of its code that is in force here. */
      readonly version: string
      /** The generation that was live before. */
      readonly before: number
      /** The principal and request id of the approval: an identity, see `identity.ts`. */
      readonly identity: string
      /** The hash of the approved diff. */
      readonly diff: string
      readonly note?: string
      /** The number of corrections that follow, and the SHA-256 of their texts. */
      readonly corrections: number
      readonly correctionsHash: string
    }

export interface CorrectionRecord {
  readonly kind: 'correction'
  readonly generation: number
  readonly correction: RecordedCorrection
}

export interface RulingRecord {
  readonly kind: 'ruling'
  /** The lowest number of the generations that it binds: that of the candidate that needed it, or else 0. */
  readonly generation: number
  readonly ruling: Ruling
}

/**
 * A derivation of an earlier record of the same partition counts as one that threw, for as long as this code
 * derives it: it took too long, needed too much memory or stack, or an operator ruled it out.
 */
export interface Ruling {
  /** SHA-256 of the bundle that it binds, in hexadecimal. */
  readonly version: string
  /** The offset of the record. */
  readonly offset: number
  /**
   * Names the message that is meant, if it comes before that record and has no place in the log, as some
   * messages of a generation that is not live: a hash of its id.
   */
  readonly between?: string
  /**
   * Counts the derivations of that record, from 0: its timers, the record itself, the events that follow in
   * its partition. Left out where an operator ruled: then all derivations of that kind.
   */
  readonly n?: number
  /** The derivation's kind, and the type and key of its message, for people. */
  readonly kind: string
  readonly type: string
  readonly key: string
  /** The failure that it gets. */
  readonly code: RulingCode
  readonly message: string
}

/** The kind of a ruling on all derivations of a record. */
export const everyKind = 'every'

type RulingCode =
  | 'derivation-too-long'
  | 'derivation-too-large'
  | 'derivation-too-deep'
  | 'derivation-ruled-out'

interface MarkRecord {
  readonly kind: 'mark'
  readonly mark: {
    /** The offset of the record whose derivation took long. */
    readonly offset: number
    /** How long it took, in milliseconds. */
    readonly ms: number
  }
}

interface WatermarkRecord {
  readonly kind: 'watermark'
  readonly watermark: Watermark
}

/** How far a partition forgets the ids of requests, from its record on. */
export interface Watermark {
  /** Ids that were made earlier are forgotten: their requests derive nothing. In milliseconds since 1970. */
  readonly before: number
  /** The time that it was reckoned from. It advances no faster than the monotonic clock. */
  readonly time: number
}

export interface FilledRecord {
  readonly kind: 'filled'
  /** The generation whose code changed. */
  readonly generation: number
  readonly filled: Filled
}

/** Rows of a new table, of keys of this partition: the code made them from the past when it came into force. */
interface Filled {
  /** The number of the control record. */
  readonly control: number
  /** Counts the records of that control record in this partition, from 0. */
  readonly n: number
  readonly table: string
  readonly rows: readonly (readonly [key: readonly (string | number)[], row: unknown])[]
}

/** A correction, and the key under which the app answers it. */
export interface RecordedCorrection {
  /** The number of the promotion's control record. */
  readonly promotion: number
  /** Counts the corrections of a promotion, from 0. */
  readonly n: number
  readonly scope: string
  readonly key: string
  /** The identity of the request that it corrects, or of the promotion. A latin1 string. */
  readonly identity: string
  readonly rootPartition: number
  readonly rootOffset: number
  readonly what: CorrectedOutcome | CorrectedEffect | CorrectedRow
}

interface CorrectedOutcome {
  readonly kind: 'outcome'
  readonly type: string
  /** The input as it was sent. */
  readonly input: unknown
  /** The first outcome, which a retry still gets. */
  readonly told: unknown
  readonly before: unknown
  readonly after: unknown
  /** Nothing differs, but an earlier promotion has corrected it, so the first outcome is kept. */
  readonly kept?: true
}

export interface CorrectedEffect {
  readonly kind: 'effect'
  readonly id: string
  readonly type: string
  /** The outbox row of the generation before. */
  readonly before: unknown
  /** The input that this generation asks for instead, JSON text; undefined if it asks for nothing. */
  readonly after?: string
}

interface CorrectedRow {
  readonly kind: 'row'
  readonly table: string
  readonly rowKey: readonly (string | number)[]
  readonly before?: unknown
  readonly after?: unknown
}

const kindRequest = 1
const kindEvent = 2
const kindTick = 4
const kindResult = 5
/** The kinds with JSON text, by the name of the field that has its value. */
const textKinds = { control: 3, correction: 6, ruling: 7, mark: 8, watermark: 9, filled: 10 } as const
const textKindOf = new Map(Object.entries(textKinds).map(([name, kind]) => [kind as number, name]))
const flagGivenUp = 1
const shortHead = 8
const resultHead = 24
const flagOutput = 1
const flagReply = 2
const requestHead = 12
const eventHead = 60

export function encodeRequest(
  identity: string,
  type: string,
  input: string,
  output: string | undefined,
  version: number,
  inReplyTo?: string,
): Buffer {
  const inputBytes = Buffer.byteLength(input)
  const outputBytes = output === undefined ? 0 : Buffer.byteLength(output)
  const replyBytes = inReplyTo === undefined ? 0 : inReplyTo.length + 1
  const end = requestHead + identity.length + type.length + inputBytes + outputBytes
  const bytes = Buffer.allocUnsafe(end + replyBytes)
  bytes[0] = kindRequest
  bytes[1] = (output === undefined ? 0 : flagOutput) | (inReplyTo === undefined ? 0 : flagReply)
  bytes.writeUInt16LE(identity.length, 2)
  bytes.writeUInt16LE(type.length, 4)
  bytes.writeUInt16LE(version, 6)
  bytes.writeUInt32LE(inputBytes, 8)
  if (inputBytes === input.length) {
    // All three are latin1. One write of a joined text costs less than three writes.
    bytes.write(identity + type + input, requestHead, 'latin1')
  } else {
    bytes.write(identity + type, requestHead, 'latin1')
    bytes.write(input, end - outputBytes - inputBytes)
  }
  if (output !== undefined) bytes.write(output, end - outputBytes)
  if (inReplyTo !== undefined) bytes[end + bytes.write(inReplyTo, end, 'latin1')] = inReplyTo.length
  return bytes
}

export function encodeEvent(event: EventRecord): Buffer {
  const keyBytes = Buffer.byteLength(event.key)
  const dataBytes = Buffer.byteLength(event.data)
  const bytes = Buffer.allocUnsafe(
    eventHead + event.identity.length + event.type.length + keyBytes + dataBytes,
  )
  bytes[0] = kindEvent
  bytes[1] = 0
  bytes.writeUInt16LE(event.generation, 2)
  bytes.writeUInt16LE(event.causePartition, 4)
  bytes.writeUInt16LE(event.rootPartition, 6)
  // Only chains of system messages are longer, and nothing depends on how long such a one is.
  bytes.writeUInt16LE(Math.min(event.depth, 0xffff), 8)
  bytes.writeUInt16LE(event.identity.length, 10)
  bytes.writeUInt16LE(event.type.length, 12)
  bytes.writeUInt16LE(keyBytes, 14)
  writeU64(bytes, event.channelNumber, 16)
  writeU64(bytes, event.causeOffset, 24)
  writeU64(bytes, event.rootOffset, 32)
  bytes.write(event.id, 40, 'latin1')
  bytes.writeUInt32LE(event.version, 56)
  let at = eventHead
  at += bytes.write(event.identity, at, 'latin1')
  at += bytes.write(event.type, at, 'latin1')
  at += bytes.write(event.key, at)
  bytes.write(event.data, at)
  return bytes
}

export function encodeTick(): Buffer {
  const bytes = Buffer.alloc(shortHead)
  bytes[0] = kindTick
  return bytes
}

export function encodeResult({ effect, input, done, tries, ms, text }: ResultRecord): Buffer {
  const bytes = Buffer.alloc(resultHead + effect.length + Buffer.byteLength(text))
  bytes[0] = kindResult
  bytes[1] = done ? 0 : flagGivenUp
  bytes.writeUInt16LE(effect.length, 2)
  bytes.writeUInt16LE(Math.min(tries, 0xffff), 4)
  bytes.writeUInt16LE(Math.min(ms, 0xffff), 6)
  bytes.write(input, shortHead, 'latin1')
  bytes.write(effect, resultHead, 'latin1')
  bytes.write(text, resultHead + effect.length)
  return bytes
}

export const encodeControl = ({ generation, control }: Omit<ControlRecord, 'kind'>): Buffer =>
  encodeText('control', control, generation)

export const encodeCorrection = ({ generation, correction }: Omit<CorrectionRecord, 'kind'>): Buffer =>
  encodeText('correction', correction, generation)

export const encodeRuling = (ruling: Ruling, generation = 0): Buffer =>
  encodeText('ruling', ruling, generation)

export const encodeMark = (mark: MarkRecord['mark']): Buffer => encodeText('mark', mark)

export const encodeWatermark = (watermark: Watermark): Buffer => encodeText('watermark', watermark)

export const encodeFilled = (filled: Filled, generation: number): Buffer =>
  encodeText('filled', filled, generation)

function encodeText(kind: keyof typeof textKinds, value: unknown, generation = 0): Buffer {
  const text = JSON.stringify(value)
  const bytes = Buffer.alloc(shortHead + Buffer.byteLength(text))
  bytes[0] = textKinds[kind]
  bytes.writeUInt16LE(generation, 2)
  bytes.write(text, shortHead)
  return bytes
}

export const isControl = (kind: number | undefined): boolean => kind === textKinds.control

export const isAboutDerivation = (kind: number | undefined): boolean =>
  kind === textKinds.ruling || kind === textKinds.mark

export type EventHead = Pick<
  EventRecord,
  'generation' | 'id' | 'causePartition' | 'causeOffset' | 'channelNumber'
>

/** Decodes only the head of an event; undefined if these are not the bytes of an event. */
export function eventIn(bytes: Buffer): EventHead | undefined {
  if (bytes[0] !== kindEvent || bytes.length < eventHead) return undefined
  return {
    generation: bytes.readUInt16LE(2),
    causePartition: bytes.readUInt16LE(4),
    channelNumber: readU64(bytes, 16),
    causeOffset: readU64(bytes, 24),
    id: bytes.toString('latin1', 40, 56),
  }
}

export function decodeRecord(bytes: Buffer): LogRecord {
  const kind = bytes[0]
  if (kind === kindRequest && bytes.length >= requestHead) return decodeRequest(bytes)
  if (kind === kindEvent && bytes.length >= eventHead) return decodeEvent(bytes)
  if (kind === kindTick && bytes.length === shortHead && bytes[1] === 0) return { kind: 'tick' }
  if (kind === kindResult && bytes.length >= shortHead) return decodeResult(bytes)
  const name = textKindOf.get(kind!)
  if (name !== undefined && bytes.length > shortHead && bytes[1] === 0) {
    const generation = name !== 'mark' && name !== 'watermark' && { generation: bytes.readUInt16LE(2) }
    return { kind: name, ...generation, [name]: textOf(bytes) } as unknown as LogRecord
  }
  throw unreadable(`kind ${kind}, ${bytes.length} bytes`)
}

function textOf(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8', shortHead))
  } catch {
    throw unreadable(`kind ${bytes[0]}, not JSON`)
  }
}

function decodeRequest(bytes: Buffer): RequestRecord {
  const flags = bytes[1]!
  const identityEnd = requestHead + bytes.readUInt16LE(2)
  const typeEnd = identityEnd + bytes.readUInt16LE(4)
  const inputEnd = typeEnd + bytes.readUInt32LE(8)
  const hasOutput = (flags & flagOutput) !== 0
  const isReply = (flags & flagReply) !== 0
  const end = isReply ? bytes.length - 1 - bytes.at(-1)! : bytes.length
  const fits = hasOutput ? inputEnd < end : inputEnd === end
  if (flags > (flagOutput | flagReply) || !fits) {
    throw unreadable(`request with flags ${flags}, ${bytes.length} bytes`)
  }
  const request: RequestRecord = {
    kind: 'request',
    identity: bytes.toString('latin1', requestHead, identityEnd),
    type: typeIn(bytes, identityEnd, typeEnd),
    version: bytes.readUInt16LE(6),
    input: bytes.toString('utf8', typeEnd, inputEnd),
    output: hasOutput ? bytes.toString('utf8', inputEnd, end) : undefined,
  }
  return isReply ? { ...request, inReplyTo: bytes.toString('latin1', end, bytes.length - 1) } : request
}

function decodeEvent(bytes: Buffer): EventRecord {
  const identityEnd = eventHead + bytes.readUInt16LE(10)
  const typeEnd = identityEnd + bytes.readUInt16LE(12)
  const keyEnd = typeEnd + bytes.readUInt16LE(14)
  if (keyEnd >= bytes.length || bytes[1] !== 0 || bytes.readUInt16LE(58) !== 0)
    throw unreadable(`event of ${bytes.length} bytes`)
  return {
    kind: 'event',
    generation: bytes.readUInt16LE(2),
    causePartition: bytes.readUInt16LE(4),
    rootPartition: bytes.readUInt16LE(6),
    depth: bytes.readUInt16LE(8),
    channelNumber: readU64(bytes, 16),
    causeOffset: readU64(bytes, 24),
    rootOffset: readU64(bytes, 32),
    id: bytes.toString('latin1', 40, 56),
    identity: bytes.toString('latin1', eventHead, identityEnd),
    type: typeIn(bytes, identityEnd, typeEnd),
    version: bytes.readUInt16LE(56),
    key: bytes.toString('utf8', typeEnd, keyEnd),
    data: bytes.toString('utf8', keyEnd, bytes.length),
  }
}

let lastType = ''

/** Most records have the type of the record before, and reusing its text costs less than decoding it again. */
function typeIn(bytes: Buffer, start: number, end: number): string {
  let isLast = lastType.length === end - start
  for (let i = 0; isLast && i < lastType.length; i++) isLast = bytes[start + i] === lastType.charCodeAt(i)
  if (!isLast) lastType = bytes.toString('latin1', start, end)
  return lastType
}

function decodeResult(bytes: Buffer): ResultRecord {
  const end = resultHead + bytes.readUInt16LE(2)
  if (bytes[1]! > flagGivenUp || end > bytes.length) {
    throw unreadable(`result with flags ${bytes[1]}, ${bytes.length} bytes`)
  }
  return {
    kind: 'result',
    effect: bytes.toString('latin1', resultHead, end),
    input: bytes.toString('latin1', shortHead, resultHead),
    done: bytes[1] !== flagGivenUp,
    tries: bytes.readUInt16LE(4),
    ms: bytes.readUInt16LE(6),
    text: bytes.toString('utf8', end, bytes.length),
  }
}

export function writeU64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32LE(value % 0x1_0000_0000, at)
  bytes.writeUInt32LE(Math.floor(value / 0x1_0000_0000), at + 4)
}

export function readU64(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 0x1_0000_0000
}

const unreadable = (what: string) =>
  operatorError(
    'record-unreadable',
    `The log holds a record that this version of Hence cannot read (${what}). ` +
      'It was written by a newer version, or changed: open it with the version that wrote it.',
  )

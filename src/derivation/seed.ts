import { hash } from 'node:crypto'
import { sha256 } from '../sha256.ts'

/**
 * Random values that are the same whenever a record is derived again: SHA-256 in counter mode over a seed.
 * They are not secret: anyone who can read the log can compute them, so do not make keys or passwords of
 * them.
 */
export class RandomStream {
  readonly #seed: string
  #block = Buffer.alloc(0)
  #blocks = 0
  #at = 0

  /** @param seed any latin1 string; equal seeds give equal streams */
  constructor(seed: string) {
    this.#seed = seed
  }

  /** A number in [0, 1) with 53 random bits. */
  number(): number {
    const bytes = this.#take(7)
    return ((bytes.readUIntLE(0, 6) + (bytes[6]! & 31) * 2 ** 48) / 2 ** 53) as number
  }

  /** A UUID of version 8 (RFC 9562: custom content). */
  uuid(): string {
    return uuidOf(this.#take(16))
  }

  #take(count: number): Buffer {
    if (this.#at + count > this.#block.length) {
      this.#block = sha256(Buffer.from(`${this.#seed}\0${this.#blocks++}`, 'latin1'))
      this.#at = 0
    }
    this.#at += count
    return this.#block.subarray(this.#at - count, this.#at)
  }
}

/** The id of an effect or a violation: a UUID of version 8, made like the id of an event. */
export function namedUuid(parent: string, type: string, key: string | number): string {
  return uuidOf(Buffer.from(eventId(parent, type, key), 'latin1'))
}

function uuidOf(random: Uint8Array): string {
  const bytes = Buffer.from(random)
  bytes[6] = (bytes[6]! & 0x0f) | 0x80
  bytes[8] = (bytes[8]! & 0x3f) | 0x80
  return bytes.toString('hex').replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, '$1-$2-$3-$4-$5')
}

/** The seed of a request: the same for any number of partitions, different in every log. */
export function requestSeed(logId: string, identity: string): string {
  return digest16(`request\0${logId}\0${identity}`)
}

export function correctionSeed(logId: string, promotion: number, n: number): string {
  return digest16(`correction\0${logId}\0${promotion}\0${n}`)
}

/**
 * The id of an event, which is also its seed: the same on every replay and for any number of partitions.
 * @param parent the seed of the derivation that emitted it
 * @param key the key that the app gave it, or its ordinal among the events of its type
 */
export function eventId(parent: string, type: string, key: string | number): string {
  const named = typeof key === 'string' ? `k${Buffer.from(key).toString('latin1')}` : `n${key}`
  return digest16(`event\0${parent}\0${type}\0${named}`)
}

function digest16(text: string): string {
  return hash('sha256', Buffer.from(text, 'latin1'), 'binary').slice(0, 16)
}

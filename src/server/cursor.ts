import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import type { KeyPart, Query } from '../app/index.ts'
import { HenceError } from '../failure.ts'
import type { Caller } from './caller.ts'

/** The position of a row in the order of a query. */
export type Position = readonly (KeyPart | boolean)[]

/**
 * Makes and reads the cursors of pages. If a rule hides rows, the last row examined may be a hidden one, whose key
 * must stay secret: that cursor is encrypted with a key of this process, and bound to the caller. So after a restart
 * such a reader starts again; readers who may see every row do not notice.
 */
export class Cursors {
  readonly #secret = randomBytes(32)

  make(position: Position, query: Query, caller: Caller, hidden: boolean): string {
    const text = JSON.stringify(position)
    if (!hidden) return Buffer.from(text).toString('base64url')
    const nonce = randomBytes(12)
    const cipher = createCipheriv('aes-256-gcm', this.#secret, nonce)
    cipher.setAAD(boundTo(query, caller))
    // Padded, because its length would disclose the length of a hidden key.
    const padded = Buffer.from(text.padEnd(Math.ceil(text.length / 64) * 64))
    const sealed = [nonce, cipher.update(padded), cipher.final(), cipher.getAuthTag()]
    return Buffer.concat(sealed).toString('base64url')
  }

  /** @throws HenceError `cursor-invalid` (change) */
  read(cursor: string, query: Query, caller: Caller, hidden: boolean): Position {
    try {
      const bytes = Buffer.from(cursor, 'base64url')
      const position: unknown = JSON.parse((hidden ? this.#open(bytes, query, caller) : bytes).toString())
      const prefix = query.prefix ?? []
      if (!Array.isArray(position) || prefix.some((part, i) => position[i] !== part)) throw invalid()
      return position
    } catch (error) {
      throw error instanceof HenceError ? error : invalid()
    }
  }

  #open(bytes: Buffer, query: Query, caller: Caller): Buffer {
    const decipher = createDecipheriv('aes-256-gcm', this.#secret, bytes.subarray(0, 12), {
      authTagLength: 16,
    })
    decipher.setAAD(boundTo(query, caller))
    decipher.setAuthTag(bytes.subarray(-16))
    return Buffer.concat([decipher.update(bytes.subarray(12, -16)), decipher.final()])
  }
}

function boundTo(query: Query, { principal }: Caller): Buffer {
  return Buffer.from(JSON.stringify([query, principal]))
}

function invalid(): HenceError {
  return new HenceError(
    'cursor-invalid',
    'change',
    'The cursor belongs to another query, another reader, or a process that has ended: start with the first page.',
  )
}

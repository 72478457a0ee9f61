import { hash } from 'node:crypto'

/** SHA-256 by way of a text: if it returns a buffer, Node takes twice as long, and does not use its pool. */
export const sha256 = (bytes: string | Uint8Array): Buffer<ArrayBuffer> =>
  Buffer.from(hash('sha256', bytes, 'latin1'), 'latin1')

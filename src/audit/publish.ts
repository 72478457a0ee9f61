import { createHash } from 'node:crypto'
import { type ConnectionOptions, Connections, discard } from '../effect/connection.ts'
import { addressOf, postSigned, signersOf } from '../effect/signed-post.ts'
import { headLine, type SignedHead } from './head.ts'
import { HeadFile } from './head-file.ts'
import type { Publish } from './publisher.ts'

/**
 * Appends heads to a file, a line each, as `hence verify --head` reads them; each is durable before the next
 * one comes. Opens the file for each head, so that it may be moved away, and makes it if it is missing. Never
 * repeats its last line.
 */
export function publishToFile(path: string): Publish {
  return async (head) => {
    const file = await HeadFile.open(path, 0o644)
    try {
      if (file.last === undefined || headLine(file.last) !== headLine(head)) await file.add(head)
    } finally {
      await file.close()
    }
  }
}

export interface WebhookPublication extends ConnectionOptions {
  /** An `http:` or `https:` address without user name and password; public, or in `allowAddresses`. */
  readonly url: string | URL
  /** The signing secret or secrets: Base64, with or without `whsec_` before it. */
  readonly secret: string | readonly string[]
}

/**
 * Posts heads to a web server: `{ type: 'hence.head', timestamp, data }`, signed by Standard Webhooks
 * (https://www.standardwebhooks.com). `JSON.stringify(data)` is the line that `hence verify --head` reads.
 * The same head always has the same id. A 2xx answer ends the call; after any other answer, or none, it is
 * tried again.
 * @throws HenceError `option-invalid`, `address-not-allowed` (change) for an invalid address or secret
 */
export function publishToWebhook({ url, secret, ...how }: WebhookPublication): Publish {
  const address = addressOf(url, 'option-invalid')
  const signers = signersOf(secret, 'option-invalid')
  const connections = new Connections(how)
  connections.check(address)
  return async (head, signal) => {
    const body = {
      type: 'hence.head',
      timestamp: new Date(head.time).toISOString(),
      data: head,
    }
    const response = await postSigned({ connections, address, signers, id: idOf(head), body, signal })
    discard(response)
  }
}

function idOf(head: SignedHead): string {
  return `head-${createHash('sha256').update(headLine(head)).digest('hex').slice(0, 32)}`
}

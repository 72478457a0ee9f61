import { createHash } from 'node:crypto'
import { addressOf, postSigned, signersOf } from '../effect/signed-post.ts'
import { headLine, type SignedHead } from './head.ts'
import { HeadFile } from './head-file.ts'
import type { Publish } from './publisher.ts'

/**
 * Adds heads to a file, a line each, as `hence verify --head` reads them; each is durable before the next one comes. The file
 * is made when it is missing, opened anew for each head, so that it may be moved away, and does not get its last head twice.
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

export interface WebhookPublication {
  /** Where to; `http:` or `https:`, without user name and password. */
  readonly url: string | URL
  /** What the receiver verifies that it comes from here with: base64, `whsec_` may stand before it; or several. */
  readonly secret: string | readonly string[]
}

/**
 * Posts heads to a web server: `{ type: 'hence.head', timestamp, data }`, signed by Standard Webhooks
 * (https://www.standardwebhooks.com). `JSON.stringify(data)` is the line that `hence verify --head` reads. The id is the same
 * whenever the same head is posted. Any 2xx is done; all else, and no answer, is tried again.
 * @throws HenceError `option-invalid` (change) for an address or a secret that cannot be one
 */
export function publishToWebhook({ url, secret }: WebhookPublication): Publish {
  const address = addressOf(url, 'option-invalid')
  const signers = signersOf(secret, 'option-invalid')
  return async (head, signal) => {
    const body = {
      type: 'hence.head',
      timestamp: new Date(head.time).toISOString(),
      data: head,
    }
    const response = await postSigned({ address, signers, id: idOf(head), body, signal })
    await response.body?.cancel()
  }
}

function idOf(head: SignedHead): string {
  return `head-${createHash('sha256').update(headLine(head)).digest('hex').slice(0, 32)}`
}

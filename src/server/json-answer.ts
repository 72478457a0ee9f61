import { createHash } from 'node:crypto'
import type { Answer } from './answer.ts'

type Headers = Readonly<Record<string, string>>

/** JSON that no cache may keep. */
export function freshAnswer(body: unknown, headers: Headers = {}, status = 200): Answer {
  return {
    status,
    headers: { 'content-type': 'application/json', 'cache-control': 'no-store', ...headers },
    body: JSON.stringify(body),
  }
}

/** JSON with an ETag; 304 if the client has it already. */
export function jsonAnswer(request: Request, body: unknown): Answer {
  return jsonTextAnswer(request, JSON.stringify(body))
}

/** As `jsonAnswer`, for JSON that is text already. */
export function jsonTextAnswer(request: Request, text: string): Answer {
  const etag = `"${createHash('sha256').update(text).digest('base64url').slice(0, 22)}"`
  // Rows depend on the caller and change at any time, so a cache must ask again.
  const headers = { etag, 'cache-control': 'private, no-cache', vary: 'authorization, cookie' }
  if (matches(request.headers.get('if-none-match'), etag)) return { status: 304, headers, body: null }
  return { status: 200, headers: { 'content-type': 'application/json', ...headers }, body: text }
}

function matches(header: string | null, etag: string): boolean {
  if (header === null) return false
  return header.split(',').some((each) => {
    const one = each.trim()
    return one === '*' || one === etag || one === `W/${etag}`
  })
}

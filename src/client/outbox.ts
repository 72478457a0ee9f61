import type { Reply } from '../app/index.ts'
import type { HenceError } from '../failure.ts'

/** A request as it is stored before it is sent. */
export interface StoredRequest {
  readonly requestId: string
  readonly type: string
  /** JSON text, so that every try sends the same bytes. */
  readonly input: string
  /** Requests of one queue are decided one after the other, in the order in which they were stored. */
  readonly queue: string
  /** When it was stored, in milliseconds since 1970, by the clock of the client. */
  readonly since: number
  readonly inReplyTo?: string
  /** It was surely never sent. Without this it may have been. */
  readonly unsent?: true
}

/**
 * Stores a client's requests until they are decided. `memory()`, `indexedDb()` and `file()` make one;
 * anything that keeps this contract works.
 */
export interface Outbox {
  /** Called once by each client. A closed outbox can be opened again and still has its requests. */
  open(): Promise<OpenOutbox>
}

export interface OpenOutbox {
  /** All stored requests, oldest first. */
  list(): Promise<readonly StoredRequest[]>
  /**
   * Stores a request. When it resolves, the request survives all that the outbox promises to survive; nothing
   * is sent before that. An id that is already stored stays as it is. Calls resolve in order.
   */
  add(request: StoredRequest): Promise<void>
  /**
   * Replaces the stored request with this id by this one, in its place; durable when it resolves. An outbox
   * without this stores no request as `unsent`.
   */
  replace?(request: StoredRequest): Promise<void>
  /** Removes a request. If the removal is lost, the request is sent once more, which changes nothing. */
  remove(requestId: string): Promise<void>
  close(): Promise<void>
  /** Set where several clients use one outbox at a time, for example the tabs of a browser. */
  readonly others?: Others
}

/** The other clients of a shared outbox. It only saves work: a request that two send gets one outcome. */
export interface Others {
  /** Runs work while no other client does so for this queue; stops waiting when the signal aborts. */
  alone(queue: string, signal: AbortSignal, work: () => Promise<void>): Promise<void>
  tell(news: News): void
  /** Calls back with the messages of other clients, not with this one's. */
  hear(listener: (news: News) => void): void
}

export type News =
  | { readonly kind: 'stored'; readonly request: StoredRequest }
  /** The reply as the server sent it, or the error that the request was refused with. */
  | {
      readonly kind: 'settled'
      readonly request: StoredRequest
      readonly reply?: Reply
      readonly refusal?: Refusal
    }

/** An error in a form that can be posted to another tab. */
export type Refusal = Pick<HenceError, 'code' | 'advice' | 'message'>

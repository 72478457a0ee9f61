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
}

/**
 * Where a client keeps its requests until they are decided. `memory()`, `indexedDb()` and `file()` make one;
 * anything that keeps this contract will do.
 */
export interface Outbox {
  /** Called once by each client. An outbox that was closed may be opened again, and has what it had. */
  open(): Promise<OpenOutbox>
}

export interface OpenOutbox {
  /** All that is stored, oldest first. */
  list(): Promise<readonly StoredRequest[]>
  /**
   * Stores a request. When it resolves, the request survives whatever the outbox promises to survive; before
   * that nothing is sent. An id that is there already stays as it is. Calls resolve in their order.
   */
  add(request: StoredRequest): Promise<void>
  /** Forgets a request. Should the removal be lost, the request is sent once more, which changes nothing. */
  remove(requestId: string): Promise<void>
  close(): Promise<void>
  /** Set where several clients use one outbox at a time, such as the tabs of a browser. */
  readonly others?: Others
}

/**
 * The other clients of a shared outbox. All of this serves politeness and speed: two clients that send the same
 * request get the same outcome.
 */
export interface Others {
  /** Runs work while no other client does so for this queue; gives up waiting when the signal aborts. */
  alone(queue: string, signal: AbortSignal, work: () => Promise<void>): Promise<void>
  tell(news: News): void
  /** Hears what the others tell; what it told itself does not come back. */
  hear(listener: (news: News) => void): void
}

export type News =
  | { readonly kind: 'stored'; readonly request: StoredRequest }
  /** `reply` as the server gave it, or the error that the request was refused with. */
  | {
      readonly kind: 'settled'
      readonly request: StoredRequest
      readonly reply?: Reply
      readonly refusal?: Refusal
    }

/** An error in a form that survives the way to another tab. */
export type Refusal = Pick<HenceError, 'code' | 'advice' | 'message'>

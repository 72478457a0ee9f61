export { type Advice, HenceError } from '../failure.ts'
export type { Backoff } from './backoff.ts'
export {
  type Change,
  type Client,
  type ClientEvents,
  type ClientOptions,
  type ClientSubmitOptions,
  client,
  type Pending,
  type Subscription,
} from './client.ts'
export { type Connection, type ConnectOptions, connect } from './connect.ts'
export { indexedDb } from './indexed-db.ts'
export { memory } from './memory.ts'
export type { News, OpenOutbox, Others, Outbox, Refusal, StoredRequest } from './outbox.ts'
export type { Refused } from './verdict.ts'

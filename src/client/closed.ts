import { retryError } from '../failure.ts'

/** The error that pending calls reject with when a client or connection closes. */
export const closed = () =>
  retryError(
    'client-closed',
    'The client is closed. Stored requests stay in its outbox, and the next client on the same outbox sends ' +
      'them; over a connection, send the same request, with the same id, again.',
  )

import type { Event, Request } from '../app/index.ts'
import { isSystemMessage } from '../app/name.ts'
import { upcastToNewest } from '../app/version.ts'
import { type HenceError, operatorError } from '../failure.ts'
import { assertSynchronous } from '../sandbox/synchronous.ts'
import { checkRow } from './check.ts'
import type { DerivationContext } from './context.ts'

/**
 * Turns a message of an older version into the version that the app knows, by the app's own upcasters. If one
 * throws, the derivation does; the guards are still on then, which shows that the error is the app's.
 *
 * @param text JSON of what the schema of that version returned
 * @param where names the record that the message comes from, for errors
 */
export function upcast(
  { program: { realm, deriving }, checked }: Pick<DerivationContext, 'program' | 'checked'>,
  message: Request | Event,
  version: number,
  text: string,
  where: string,
): unknown {
  const { kind, name, version: newest } = message
  if (version > newest) {
    throw unknownVersion(where, kind === 'event' ? 'an event' : 'a request', name, version, newest)
  }
  deriving.active = true
  const value = upcastToNewest(message, version, realm.parseFrozen(text), (next) => {
    assertSynchronous(next)
    // Sealed, so that the next step gets only what a record could hold.
    return realm.seal(next)
  })
  // Only for events: the output of a request's schema need not fit the schema again.
  if (checked && kind === 'event')
    checkRow(`data of event "${name}" (upcast from version ${version})`, message.data, value)
  deriving.active = false
  return value
}

/** A version that the code does not know yet fails no derivation: going on would lose the message. */
export function unknownVersion(
  where: string,
  what: 'a request' | 'an event',
  type: string,
  version: number,
  newest: number,
): HenceError {
  const known = newest === 1 ? 'version 1 alone' : `the versions 1 to ${newest}`
  const needed = isSystemMessage(type)
    ? 'the version of Hence that wrote it'
    : `code that defines "${type}" with version ${version} or a later one`
  return operatorError(
    'unknown-version',
    `${where} holds ${what} "${type}" of version ${version}, and this code knows ${known}. It was written ` +
      `by newer code: start with ${needed}. Nothing was derived from it.`,
  )
}

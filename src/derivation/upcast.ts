import { type Event, HenceError, type Request } from '../app/index.ts'
import { isSystemMessage } from '../app/name.ts'
import { assertSynchronous } from '../sandbox/synchronous.ts'
import { checkRow } from './check.ts'
import type { DerivationContext } from './context.ts'

/**
 * Makes of a message of an older version one of the version that the app knows: one step after the other, by the app's
 * own code. When a step throws, the derivation does; the guards are still on then, which tells whose fault it was.
 *
 * @param text JSON of what the schema of that version gave
 * @param where names the record that the message goes back to, for an error
 * @throws HenceError `unknown-version` (operator) for a version that is newer than the definition's, and what the app throws
 */
export function upcast(
  { program: { realm, deriving }, checked }: DerivationContext,
  message: Request | Event,
  version: number,
  text: string,
  where: string,
): unknown {
  const { kind, name, version: newest, upcast: steps } = message
  if (version > newest) {
    throw unknownVersion(where, kind === 'event' ? 'an event' : 'a request', name, version, newest)
  }
  deriving.active = true
  let value = realm.parseFrozen(text)
  for (let from = version; from < newest; from++) {
    const next = steps[from]!(value)
    assertSynchronous(next)
    // What a step makes is kept to what a record could hold, so that the next one is given nothing else.
    value = realm.seal(next)
  }
  // A request's schema may change what fits it, so only data of events can be held against theirs once more.
  if (checked && kind === 'event')
    checkRow(`data of event "${name}" (upcast from version ${version})`, message.data, value)
  deriving.active = false
  return value
}

/** A message of a version that is to come is no failure of a derivation: going on would lose it. */
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
  return new HenceError(
    'unknown-version',
    'operator',
    `${where} holds ${what} "${type}" of version ${version}, and this code knows ${known}. It was written by newer code: ` +
      `start with ${needed}. Nothing was derived from it.`,
  )
}

import { HenceError } from '../failure.ts'

/** The versions of a type of messages: what stands in the log stays as it was written, and is read as the newest. */
export interface Versioned {
  /** The version of what the schema gives, from 1 on. */
  readonly version: number
  readonly upcast: Upcasters
}

/** By version: what a message of it says, in the form of the version after it. */
// biome-ignore lint/suspicious/noExplicitAny: what an older schema gave has no type any more.
export type Upcasters = Readonly<Record<number, (older: any) => unknown>>

/** For a definition: one upcaster for every older version; the last one gives what the schema gives. */
export type UpcastersTo<Version extends number, Newest> = [Version] extends [1]
  ? { readonly upcast?: never }
  : { readonly upcast: Steps<Version, Newest> }

/** Counts from version 1 to the one before the newest. */
type Steps<
  Version extends number,
  Newest,
  Counted extends 0[] = [0],
  Found = unknown,
> = Counted['length'] extends Version
  ? Found
  : Steps<Version, Newest, [...Counted, 0], Found & UpcastStep<Counted['length'], Version, Newest, Counted>>

type UpcastStep<From extends number, Version extends number, Newest, Counted extends 0[]> = {
  // biome-ignore lint/suspicious/noExplicitAny: as above.
  readonly [V in From]: (older: any) => [...Counted, 0]['length'] extends Version ? Newest : unknown
}

/** It stands in one byte of a record. */
const versionMax = 255

/**
 * All older versions must be readable, also those that no log of today holds: a gap that is found when the code is
 * written costs a line, one that is found when an old record is read stops an engine. And a step that leads to a later
 * version than the newest would never run, so the number was forgotten.
 * @throws HenceError `app-invalid` (change)
 */
export function checkVersions(of: string, { version, upcast }: Versioned): void {
  if (!Number.isInteger(version) || version < 1 || version > versionMax) {
    throw invalid(`The version of ${of} must be a whole number from 1 to ${versionMax}, not ${version}.`)
  }
  for (let from = 1; from < version; from++) {
    if (typeof upcast[from] === 'function') continue
    throw invalid(
      `Version ${version} of ${of} has no upcaster from version ${from}: give \`upcast\` a function under ${from} that ` +
        `makes of such a message one of version ${from + 1}.`,
    )
  }
  for (const from of Object.keys(upcast)) {
    const number = Number(from)
    if (Number.isInteger(number) && number >= 1 && number < version) continue
    throw invalid(
      `The upcaster from version ${from} of ${of} leads nowhere, since version ${version} is the newest: ` +
        'raise `version`, or remove it.',
    )
  }
}

function invalid(message: string): HenceError {
  return new HenceError('app-invalid', 'change', message)
}

/**
 * Turns a value of an older version into one of the newest, one upcaster after the other.
 * @param check takes what an upcaster returned; its result is what the next one gets
 */
export function upcastToNewest(
  { version: newest, upcast }: Versioned,
  version: number,
  value: unknown,
  check: (value: unknown) => unknown = (value) => value,
): unknown {
  let upcasted = value
  for (let from = version; from < newest; from++) upcasted = check(upcast[from]!(upcasted))
  return upcasted
}

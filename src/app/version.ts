import { changeError } from '../failure.ts'

/** The versions of a message type. The log keeps a message as written; reading upcasts it to the newest. */
export interface Versioned {
  /** The version of the schema's output, from 1. */
  readonly version: number
  readonly upcast: Upcasters
}

/** By version: turns a message of version n into version n + 1. */
// biome-ignore lint/suspicious/noExplicitAny: the output of an older schema no longer has a type.
type Upcasters = Readonly<Record<number, (older: any) => unknown>>

/** For a definition: one upcaster for every older version; the last one returns the schema's output type. */
export type UpcastersTo<Version extends number, Newest> = [Version] extends [1]
  ? { readonly upcast?: never }
  : { readonly upcast: Steps<Version, Newest> }

/** The upcasters from version 1 to the last but one, as one type; counts by the length of a tuple. */
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

/** A record stores the version in one byte. */
const versionMax = 255

/**
 * Checks that there is an upcaster for every older version, even those that no present log holds: a gap found
 * when an old record is read stops an engine. One for the newest version means that none was raised.
 */
export function checkVersions(of: string, { version, upcast }: Versioned): void {
  if (!Number.isInteger(version) || version < 1 || version > versionMax) {
    throw invalid(`The version of ${of} must be a whole number from 1 to ${versionMax}, not ${version}.`)
  }
  for (let from = 1; from < version; from++) {
    if (typeof upcast[from] === 'function') continue
    throw invalid(
      `Version ${version} of ${of} has no upcaster from version ${from}: add \`${from}: (older) => …\` to ` +
        `\`upcast\`, a function that returns the message in version ${from + 1}.`,
    )
  }
  for (const from of Object.keys(upcast)) {
    const number = Number(from)
    if (Number.isInteger(number) && number >= 1 && number < version) continue
    throw invalid(
      `The upcaster from version ${from} of ${of} would never run, since version ${version} is the newest: ` +
        'raise `version` or remove the upcaster.',
    )
  }
}

const invalid = (message: string) => changeError('app-invalid', message)

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

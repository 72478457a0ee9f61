import { isSystemMessage } from '../app/name.ts'
import { systemClock } from '../clock.ts'
import { changeError } from '../failure.ts'
import type { Carrier } from '../log/carrier.ts'
import { openFileLog } from '../log/file-log/file-log.ts'
import { type Log, positionOf, recordsOfKind } from '../log/log.ts'
import {
  decodeRecord,
  encodeRuling,
  everyKind,
  isAboutDerivation,
  type LogRecord,
  type Ruling,
} from '../log/record.ts'
import { snapshotData } from './data-snapshot.ts'
import { takeDirectory } from './exclusive.ts'
import { versionInForce } from './version-in-force.ts'

export interface RuleOptions {
  /** The data directory. No process may have it open. */
  readonly data: string
  /** The carrier that has the log, if the directory is a copy. It is closed. */
  readonly log?: Carrier | undefined
  /** The position of the record: `partition:offset`. */
  readonly record: string
  /** The reason, for the story of the request. Default: that an operator ruled it out. */
  readonly reason?: string | undefined
  /** Is asked once the record is found and may be ruled on; if it returns false, nothing is written. */
  readonly confirm?: (() => Promise<boolean>) | undefined
}

/** A record that was ruled out. */
export interface RuledRecord {
  readonly record: string
  readonly kind: string
  /** The type of the request or event; of other records, their kind. */
  readonly type: string
  /** The version of the code that the ruling binds: the one in force. */
  readonly version: string
}

/**
 * Rules out the derivation of a record, by the code in force: it counts as failed, and the next start goes on
 * after it. For a record that stops each start before Hence can rule on it by itself.
 * @returns undefined if it was not confirmed
 * @throws HenceError `data-in-use` (retry); `token-unknown`, `ruling-refused`, `code-not-kept` (change);
 *   `no-log` (change); `log-damaged` (operator)
 */
export async function rule(options: RuleOptions): Promise<RuledRecord | undefined> {
  const { data, log: carrier } = options
  const snapshot = await snapshotData(data)
  const lock = await takeDirectory(data, 'ruled out')
  let log: Log | undefined
  try {
    const version = await versionInForce(data, snapshot)
    const clock = { ...systemClock, now: () => 0 }
    log = await openFileLog({ directory: data, carrier, clock, report: () => {} })
    return await ruleOut(log, version, options)
  } finally {
    await log?.close()
    await carrier?.close()
    await lock.release()
  }
}

/** As `rule`, in a log that is open. */
export async function ruleOut(
  log: Log,
  version: string,
  { record: token, reason, confirm }: Omit<RuleOptions, 'data' | 'log'>,
): Promise<RuledRecord | undefined> {
  const position = positionOf(token, log.partitions)
  if (position === undefined) throw unknownRecord(token)
  const { partition, offset } = position
  if (offset >= (await log.end(partition))) throw unknownRecord(token)
  const { found, wasRuled } = await examine(log, partition, offset, version)
  const { kind } = found
  const type = 'type' in found ? found.type : kind
  if (!['request', 'event', 'tick', 'result', 'correction'].includes(kind))
    throw refused(token, `it is a ${kind}, which derives nothing of the app`)
  const isOwn = kind !== 'tick' && !(kind === 'request' && isSystemMessage(type))
  const ruling: Ruling = {
    version,
    offset,
    // Only other derivations of that record can be meant: its timers, or what had waited.
    kind: isOwn && !wasRuled ? kind : everyKind,
    type,
    key: '',
    code: 'derivation-ruled-out',
    message: reason ?? 'An operator ruled it out.',
  }
  if (confirm && !(await confirm())) return undefined
  await log.append(partition, [encodeRuling(ruling)])
  return { record: token, kind, type, version }
}

/** Reads the record, makes sure that it may be ruled on, and whether an operator has done so before. */
async function examine(
  log: Log,
  partition: number,
  offset: number,
  version: string,
): Promise<{ readonly found: LogRecord; readonly wasRuled: boolean }> {
  const token = `${partition}:${offset}`
  if ((await log.decided!(partition)) > offset)
    throw refused(token, 'it was derived before, and its outcome may have been sent')
  let found: LogRecord | undefined
  let wasRuled = false
  for await (const batch of log.read(partition, offset)) {
    found ??= decodeRecord(batch.records[offset - batch.offset]!)
    for (const [, bytes] of recordsOfKind(batch, isAboutDerivation)) {
      const later = decodeRecord(bytes)
      if (later.kind === 'ruling' && later.ruling.offset === offset && later.ruling.n === undefined)
        wasRuled ||= later.ruling.version === version
      if (later.kind === 'mark' && later.mark.offset === offset)
        throw refused(
          token,
          `its derivation ended, in ${later.mark.ms} ms, and its outcome may have been sent`,
        )
    }
  }
  return { found: found!, wasRuled }
}

const refused = (token: string, why: string) =>
  changeError(
    'ruling-refused',
    `Record ${token} cannot be ruled out: ${why}. Nothing was written. If it stops each start, promote ` +
      'code that can derive it.',
  )

const unknownRecord = (token: string) =>
  changeError(
    'token-unknown',
    `The log has no record ${JSON.stringify(token)}. Give a position as in 0:1234; alarms and \`hence log ` +
      `cat\` show positions.`,
  )

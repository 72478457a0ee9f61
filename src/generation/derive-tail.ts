import { setImmediate as turn } from 'node:timers/promises'
import { assert } from '../assert.ts'
import { engineClosed, failedKey, type HenceError } from '../failure.ts'
import type { Log } from '../log/log.ts'
import { recordsBefore } from '../log/partitions.ts'
import { decodeRecord, encodeMark, encodeRuling, type Ruling } from '../log/record.ts'
import { recordsAt } from '../log/records-at.ts'
import type { Applied } from '../processor/applied.ts'
import { positionNumber } from '../processor/event-order.ts'
import { cannotDerive, decidedTimes, exceeded } from '../processor/limits.ts'
import { type ReplayLimits, type ReplayOptions, replay } from '../processor/replay.ts'
import type { Reporter } from '../report.ts'
import { type DerivedAt, Interruption } from '../sandbox/timed.ts'
import type { RunFile } from '../storage/run-file.ts'
import type { Generation } from './generation.ts'

/** A group of records may take 1 / `suspectPart` of a derivation's limit; longer ones leave a mark. */
const suspectPart = 10

/** How long a group of records may take, in milliseconds, by the limit for one derivation. */
export const suspectMs = (derivationMs: number): number => Math.max(1, derivationMs / suspectPart)

/** The parts of an engine, or of a candidate, that `deriveTail` works with. */
export interface TailHost {
  readonly log: Log
  readonly derived: () => Generation
  readonly report: Reporter
  readonly pause: ReplayOptions['pause']
  /** Whether the process is to end: then no record is tried again, or ruled on. */
  readonly stops: () => boolean
  /** Called with the results of each record that were not passed on before. */
  readonly passOn: (applied: Applied) => void
  /** Names the record at which the process before this one died, and notes each record that this one begins. */
  readonly run?: RunFile | undefined
  /** Derives up to a message in a separate process; returns the interruption, or undefined if there was none. */
  readonly deriveApart?: ((at: DerivedAt) => Promise<Interruption | undefined>) | undefined
  /** Of a generation that is not live: nothing of it was passed on before, and another process has the log. */
  readonly candidate?: {
    /** Writes a ruling to the log, as far as `log` reads it from then on. */
    readonly rule: (partition: number, ruling: Ruling) => Promise<unknown>
    /** Called when the generation has gone back to its last checkpoint. */
    readonly reloaded: () => void
  }
}

/** A record at which this many processes have died is derived in a separate process. */
export const deathsMax = 2

/**
 * Brings a generation to the end of the log. No record can stop it: a derivation that does not end, or
 * that overflows the stack, gets a ruling, which is in the log before any result of that record is passed on.
 *
 * At first records are derived in groups that share a limit. When a group exceeds it, or a derivation
 * overflows the stack, the generation goes back to its last checkpoint, since nothing in memory can be relied
 * on after an interruption. From there records are derived one by one, each derivation under its own limit.
 *
 * @param decided by partition: the results of records below this offset were passed on before, so nothing may
 *   rule on them
 * @param interrupted the interruption that made this necessary; then the generation starts over
 * @returns how many records were applied
 * @throws HenceError `derivation-too-long`, `derivation-too-deep` (operator) for a record that nothing may
 *   rule on; `engine-closed` (retry) if `stops` leaves a record to the next start
 */
export async function deriveTail(
  host: TailHost,
  options: {
    readonly decided: readonly number[]
    readonly partitions?: readonly number[]
    readonly interrupted?: Interruption | undefined
    /** Go back to the last checkpoint first. */
    readonly startOver?: boolean
    /** How far, and how fast. */
    readonly until?: Pick<ReplayOptions, 'ends' | 'frontier' | 'atOnce'>
  },
): Promise<number> {
  const { log, derived } = host
  const { decided } = options
  const began = recordsBefore(derived().processor.positions)
  const known: Known = { slow: new Map(), examined: new Set(), marks: 0 }
  let { interrupted } = options
  for (let startsOver = options.startOver === true; ; startsOver = true) {
    if (interrupted !== undefined) {
      // A signal that came during the derivation is dispatched by the second turn at the latest.
      for (let turns = 0; turns < 2; turns++) await turn()
      if (host.stops()) throw engineClosed()
      await respond(host, decided, interrupted, known)
    }
    if (startsOver) {
      await derived().reload()
      host.candidate?.reloaded()
    }
    if (interrupted !== undefined && host.stops()) throw engineClosed()
    try {
      const isApart = interrupted !== undefined || host.run !== undefined
      const limits = limitsOf(host, decided, isApart ? known : undefined)
      do {
        known.marks = 0
        await replay(log, derived(), {
          ...options.until,
          ...(!startsOver && options.partitions && { partitions: options.partitions }),
          pause: host.pause,
          applied(applied) {
            if (applied.offset >= decided[applied.partition]!) host.passOn(applied)
          },
          appliedFrom: decided,
          limits,
        })
        // Marks stand behind the end that the replay knew.
      } while (known.marks > 0)
      host.run?.ended()
      return recordsBefore(derived().processor.positions) - began
    } catch (error) {
      if (!(error instanceof Interruption)) throw error
      interrupted = error
    }
  }
}

/** Records that earlier attempts have met, by position. */
interface Known {
  /** Those that exceeded the limit of a group, with the time that each may take now, in milliseconds. */
  readonly slow: Map<number, number>
  /** Those at which processes died, and which a separate process has then derived. */
  readonly examined: Set<string>
  /** How many marks this replay has appended. */
  marks: number
}

/** @param known undefined: records are derived in groups */
function limitsOf(
  { log, derived: generation, report, run, candidate }: TailHost,
  decided: readonly number[],
  known: Known | undefined,
): ReplayLimits {
  const { derivationMs } = generation()
  const groupMs = (partition: number, offset: number) =>
    offset < decided[partition]! ? decidedTimes * derivationMs : suspectMs(derivationMs)
  if (known === undefined) return { groupMs }
  return {
    groupMs,
    apart: {
      from: decided,
      begins(at) {
        if (run === undefined) return
        const deaths = run.begins(at) - 1
        if (deaths < deathsMax || known.examined.has(JSON.stringify(at))) return
        const suspected = new Interruption('derivation-too-large')
        suspected.at = at
        throw suspected
      },
      dueMs: () => Math.max(firstMs(candidate, derivationMs), ...known.slow.values()),
      recordMs(partition, offset) {
        // A mark says that the live code ended.
        const isMarked = !candidate && generation().processor.rulings.isMarked(partition, offset)
        const least = isMarked ? decidedTimes * derivationMs : firstMs(candidate, derivationMs)
        return Math.max(least, known.slow.get(positionNumber(partition, offset)) ?? 0)
      },
      async derived(partition, offset, ms) {
        if (ms < suspectMs(derivationMs) || candidate) return
        const bytes = encodeMark({ offset, ms: Math.round(ms) })
        await log.append(partition, [bytes])
        known.marks++
        generation().processor.rulings.note(partition, bytes)
        report({
          level: 'warning',
          code: 'derivation-slow',
          message:
            `Record ${partition}:${offset} took ${Math.round(ms)} ms to derive. The limit is ` +
            `${derivationMs} ms for one derivation.`,
        })
      },
    },
  }
}

/** How long a record may take at first, by itself. Nobody waits for a candidate, so no alarm comes first. */
const firstMs = (candidate: TailHost['candidate'], derivationMs: number): number =>
  candidate ? derivationMs : suspectMs(derivationMs)

/** Responds to an interruption: gives the record its whole time, or a ruling. */
async function respond(
  host: TailHost,
  decided: readonly number[],
  interrupted: Interruption,
  { slow, examined }: Known,
): Promise<void> {
  const { log, derived, report, candidate } = host
  const { derivationMs, processor, program, number } = derived()
  const { at } = interrupted
  // Only deriving the records one by one can find out which it was.
  if (at === undefined) return
  let interruption = interrupted
  const key = positionNumber(at.partition, at.offset)
  if (interrupted.code === 'derivation-too-large' && interrupted.derivation === undefined) {
    report({
      level: 'alarm',
      code: 'derivation-suspected',
      message: `Processes have died at record ${at.partition}:${at.offset}. It is derived in a process of its own.`,
    })
    const found = await host.deriveApart?.(at)
    examined.add(JSON.stringify(at))
    if (found === undefined) return
    found.at = at
    if (found.code === 'derivation-too-long') slow.set(key, derivationMs)
    interruption = found
  }
  const { code, derivation } = interruption
  const { partition, offset } = at
  if (
    offset < decided[partition]! ||
    (!candidate && derivation !== undefined && processor.rulings.isMarked(partition, offset))
  )
    throw mayBeSent(interruption)
  const name = `Record ${partition}:${offset}`
  const given = slow.get(key) ?? (candidate && derivation && derivationMs)
  // No single derivation took that long: many together did, or Hence's own work on their claims.
  const isOne =
    derivation !== undefined && (code !== 'derivation-too-long' || interruption.ms > 0.9 * derivationMs)
  if (code === 'derivation-too-long' && (given === undefined || !isOne)) {
    const gets = given === undefined ? derivationMs : 2 * given
    slow.set(key, gets)
    if (candidate) return
    report({
      level: given === undefined ? 'alarm' : 'warning',
      code: 'derivation-slow',
      message:
        `${name} (${await describe(log, at)}) has been deriving for ${given ?? suspectMs(derivationMs)} ` +
        `ms. It gets ${gets} ms. A derivation that does not end within ${derivationMs} ms counts as ` +
        'failed, and the others go on.',
    })
    return
  }
  assert(derivation !== undefined, 'a derivation that is ruled on is known')
  const { type } = derivation
  const ruling: Ruling = {
    version: program.version,
    offset,
    ...(at.between !== undefined && { between: at.between }),
    ...derivation,
    code,
    message: messageOf(code, derivationMs),
  }
  if (candidate) await candidate.rule(partition, ruling)
  else await log.append(partition, [encodeRuling(ruling)])
  const whose = candidate ? `the code of generation ${number}, which is not live` : 'this version of the code'
  report({
    level: 'alarm',
    code: 'derivation-ruled',
    message:
      `${name} (${type} ${failedKey(derivation.key)}) was ruled on: ${ruling.message} It counts as ` +
      `failed for ${whose}. Mend the code and promote it: what the record should have ` +
      'done is then derived and corrected.',
  })
}

/** The error for a record whose outcome by this code may have been sent. */
export function mayBeSent(interruption: Pick<Interruption, 'code' | 'at' | 'derivation'>): HenceError {
  const remedy =
    interruption.code === 'derivation-too-long'
      ? 'start with a larger `derivationMs`'
      : 'give Node a larger `--stack-size`'
  return cannotDerive(
    interruption,
    `Its outcome may have been sent, so nothing rules on it: ${remedy}, or promote code that can derive it.`,
  )
}

function messageOf(code: Interruption['code'], derivationMs: number): string {
  if (code === 'derivation-too-long') return `Its derivation had not ended after ${derivationMs} ms.`
  const text = exceeded[code]
  return `${text[0]!.toUpperCase()}${text.slice(1)}.`
}

/** The type of a record's message, for people. */
async function describe(
  log: Log,
  { partition, offset }: { readonly partition: number; readonly offset: number },
): Promise<string> {
  for await (const { bytes } of recordsAt(log, partition, [offset])) {
    const record = decodeRecord(bytes)
    return 'type' in record ? record.type : record.kind
  }
  return 'unknown'
}

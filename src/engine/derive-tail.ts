import type { Generation } from '../generation/generation.ts'
import type { Log } from '../log/log.ts'
import { recordsBefore } from '../log/partitions.ts'
import { decodeRecord, encodeMark, encodeRuling, type Ruling } from '../log/record.ts'
import { recordsAt } from '../log/records-at.ts'
import type { Applied } from '../processor/applied.ts'
import { positionNumber } from '../processor/event-order.ts'
import { cannotDerive, exceeded } from '../processor/limits.ts'
import { type ReplayLimits, replay } from '../processor/replay.ts'
import type { Reporter } from '../report.ts'
import { Interruption } from '../sandbox/timed.ts'

/**
 * A group of records may take this part of the limit for one derivation before they are derived one by one. A derivation that
 * takes longer leaves a mark.
 */
const suspectPart = 10
/** A record that was derived before may take so many times the limit: this machine may be slower, or busy. */
const decidedTimes = 10

/** How long a group of records may take, in milliseconds, if one derivation may take so long. */
export function suspectMs(derivationMs: number): number {
  return Math.max(1, derivationMs / suspectPart)
}

/** The parts of an engine that catching up works on. */
export interface TailHost {
  readonly log: Log
  readonly live: () => Generation
  readonly derivationMs: number
  readonly report: Reporter
  readonly pause: () => Promise<unknown> | undefined
  /** Called with the results of records whose results were not passed on before. */
  readonly passOn: (applied: Applied) => void
}

/**
 * Applies what the log holds beyond the positions of the live generation, and lets no record stop it: a derivation that does not
 * end, or uses up the stack, is ruled on. The ruling is in the log before anything of its record is passed on.
 *
 * First groups of records share a limit. When one exceeds it, or before that where the stack was used up, the generation goes
 * back to its last checkpoint, since nothing in memory can be relied on after an interruption. Then records are derived one by
 * one, each derivation under its own limit.
 *
 * @param decided by partition: the results of records below were passed on before, so nothing may rule on them
 * @param interrupted the interruption that was the reason to catch up: then the generation starts over
 * @returns how many records were applied
 * @throws HenceError `derivation-too-long`, `derivation-too-deep` (operator) for a record that nothing may rule on
 */
export async function deriveTail(
  host: TailHost,
  options: {
    readonly decided: readonly number[]
    readonly partitions?: readonly number[]
    readonly interrupted?: Interruption
  },
): Promise<number> {
  const { log, live } = host
  const { decided } = options
  const began = recordsBefore(live().processor.positions)
  /** By position: records that have exceeded the limit of a group, and so get all their time. */
  const slow = new Set<number>()
  let { interrupted } = options
  for (;;) {
    if (interrupted !== undefined) {
      await respond(host, decided, interrupted, slow)
      await live().reload()
    }
    try {
      const limits = limitsOf(host, decided, interrupted === undefined ? undefined : slow)
      await replay(log, live(), {
        ...(interrupted === undefined && options.partitions && { partitions: options.partitions }),
        pause: host.pause,
        applied(applied) {
          if (applied.offset >= decided[applied.partition]!) host.passOn(applied)
        },
        limits,
      })
      return recordsBefore(live().processor.positions) - began
    } catch (error) {
      if (!(error instanceof Interruption)) throw error
      interrupted = error
    }
  }
}

function limitsOf(
  { log, live, derivationMs, report }: TailHost,
  decided: readonly number[],
  slow: ReadonlySet<number> | undefined,
): ReplayLimits {
  const isDecided = (partition: number, offset: number) => offset < decided[partition]!
  const groupMs = (partition: number, offset: number) =>
    isDecided(partition, offset) ? decidedTimes * derivationMs : suspectMs(derivationMs)
  if (slow === undefined) return { groupMs }
  return {
    groupMs,
    apart: {
      derivationMs(partition, offset) {
        const isFinal = isDecided(partition, offset) || live().processor.rulings.isMarked(partition, offset)
        if (isFinal) return decidedTimes * derivationMs
        return slow.has(positionNumber(partition, offset)) ? derivationMs : suspectMs(derivationMs)
      },
      async derived(partition, offset, ms) {
        if (ms < suspectMs(derivationMs) || isDecided(partition, offset)) return
        const bytes = encodeMark({ offset, ms: Math.round(ms) })
        await log.append(partition, [bytes], decided[partition])
        live().processor.rulings.note(partition, bytes)
        report({
          level: 'warning',
          code: 'derivation-slow',
          message: `Record ${partition}:${offset} took ${Math.round(ms)} ms to derive. The limit is ${derivationMs} ms for one derivation.`,
        })
      },
    },
  }
}

/** Answers an interruption: the record gets all its time, or a ruling. */
async function respond(
  { log, live, derivationMs, report }: TailHost,
  decided: readonly number[],
  interruption: Interruption,
  slow: Set<number>,
): Promise<void> {
  const { code, at, derivation } = interruption
  // Only reloading can find out which record it was.
  if (at === undefined) return
  const { partition, offset } = at
  const { processor, program } = live()
  const isFinal = offset < decided[partition]! || processor.rulings.isMarked(partition, offset)
  const name = `Record ${partition}:${offset}`
  if (isFinal && derivation !== undefined) {
    const advice =
      code === 'derivation-too-long'
        ? 'Its outcome may have been sent, so nothing rules on it: start with a larger `derivationMs`, or promote code that can derive it.'
        : 'Its outcome may have been sent, so nothing rules on it: start Node with a larger `--stack-size`, or promote code that can derive it.'
    throw cannotDerive(interruption, advice)
  }
  if (derivation === undefined || isFinal) {
    report({
      level: 'warning',
      code: 'derivation-slow',
      message: `${name} (${await describe(log, at)}) takes long to derive. It is derived again, by itself.`,
    })
    return
  }
  const key = positionNumber(partition, offset)
  const { type } = derivation
  if (code === 'derivation-too-long' && !slow.has(key)) {
    slow.add(key)
    report({
      level: 'alarm',
      code: 'derivation-slow',
      message:
        `${name} (${type} ${JSON.stringify(derivation.key)}) has been deriving for ${suspectMs(derivationMs)} ms. ` +
        `It gets ${derivationMs} ms; if it does not end by then, it counts as failed, and the others go on.`,
    })
    return
  }
  const ruling: Ruling = {
    version: program.version,
    offset,
    ...derivation,
    code,
    message: messageOf(code, derivationMs),
  }
  const bytes = encodeRuling(ruling)
  await log.append(partition, [bytes], decided[partition])
  report({
    level: 'alarm',
    code: 'derivation-ruled',
    message:
      `${name} (${type} ${JSON.stringify(derivation.key)}) was ruled on: ${ruling.message} It counts as failed for this version of the ` +
      'code. Mend the code and promote it: what the record should have done is then derived and corrected.',
  })
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

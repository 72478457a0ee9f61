import type { KeyPart, Query, Table, View } from '../app/index.ts'
import { upcastToNewest } from '../app/version.ts'
import type { ViewRows } from '../app/view.ts'
import { checkRow } from '../derivation/check.ts'
import { unknownVersion } from '../derivation/upcast.ts'
import { changeError, HenceError } from '../failure.ts'
import type { Generation } from '../generation/generation.ts'
import { partitionOf, recordsBefore } from '../log/partitions.ts'
import { encodeFilled } from '../log/record.ts'
import { Pace } from '../reprocess/pace.ts'
import type { Program } from '../sandbox/program.ts'
import { assertSynchronous } from '../sandbox/synchronous.ts'
import { encodeKey } from '../state/keys.ts'
import type { Storage } from '../storage/storage.ts'
import { deriveAgain } from './derive.ts'
import { messagesOf } from './feed.ts'
import { storeOf, thrownIn, ViewFold } from './fold.ts'
import type { ViewsHost } from './host.ts'

/** A record of filled rows ends with the row that reaches so many bytes. */
const recordBytes = 64 * 1024
const rowsAtOnce = 1_000
const sliceMsMax = 50

export type PastRows = Awaited<ReturnType<typeof foldPastRows>>

/**
 * The rows of new tables, made from the past by the code that brings the tables: derives the log again, and
 * folds what their fills take. They are in stores of their own until they are in the log.
 * @param given.until by partition: the offset of the control record that brings the tables into force
 * @param given.isBegun some of the rows may be in the log already
 * @param given.progress called with the number of records that were derived
 * @throws HenceError `fill-failed` (change), and the reason of the signal
 */
export async function foldPastRows(
  host: ViewsHost,
  live: Generation,
  program: Program,
  given: {
    readonly tables: readonly Table[]
    readonly until: readonly number[]
    readonly isBegun: boolean
    readonly progress: (derived: number) => void
    readonly signal: AbortSignal | undefined
  },
) {
  const { storage, checkpointRows, generations, clock, isBusy, next } = host
  const { tables, until, isBegun, progress, signal } = given
  const checked = generations.checked || program.app.checksSchemas
  const folds: ViewFold[] = []
  const pace = new Pace({ clock, isBusy, next, sliceMsMax }, 1)

  /** The rows as records of the log, by partition in order: the same whenever they are asked for. */
  function* records(control: number, { number, processor: { partitions } }: Generation) {
    const next = new Array<number>(partitions).fill(0)
    for (const { name: table, table: rows } of folds) {
      const open = new Map<number, { rows: [KeyPart[], unknown][]; bytes: number }>()
      const take = (partition: number): [partition: number, n: number, bytes: Buffer] => {
        const n = next[partition]!++
        const taken = open.get(partition)!
        open.delete(partition)
        return [partition, n, encodeFilled({ control, n, table, rows: taken.rows }, number)]
      }
      for (let from: KeyPart[] = []; ; ) {
        const page = rows.scan({ from, limit: rowsAtOnce })
        // The last one of the page before is there again.
        for (const { key, value } of page.slice(from.length > 0 ? 1 : 0)) {
          const partition = partitionOf(key[0] as string, partitions)
          if (!open.has(partition)) open.set(partition, { rows: [], bytes: 0 })
          const there = open.get(partition)!
          there.rows.push([key, value])
          there.bytes += JSON.stringify([key, value]).length
          if (there.bytes >= recordBytes) yield take(partition)
        }
        if (page.length < rowsAtOnce) break
        from = page.at(-1)!.key
      }
      for (const partition of [...open.keys()]) yield take(partition)
    }
  }

  const drop = async (): Promise<void> => {
    for (const fold of folds) {
      await fold.close()
      await storage.dropStore(storeOf(fold))
    }
  }

  try {
    for (const table of tables) folds.push(await openFold(storage, table, program, checked, isBegun))
    await deriveAgain(host, live, {
      pace,
      isEnded: () => signal?.aborted === true,
      async fold(records, { program: { app }, processor, derivationMs }) {
        const before = records.filter(({ partition, offset }) => offset < until[partition]!)
        const messages = await messagesOf(before, { app, log: storage.log, processor }, folds)
        for (const fold of folds) {
          await fold.fold(messages, derivationMs, () => pace.rest())
          await fold.saveIfDue(checkpointRows)
          if (fold.failure) throw fold.failure
        }
        progress(recordsBefore(processor.positions))
      },
    })
    signal?.throwIfAborted()
  } catch (error) {
    await drop()
    throw error
  }
  return { records, drop }
}

/** A view that folds what the fills of a table take. */
async function openFold(
  storage: Storage,
  table: Table,
  program: Program,
  checked: boolean,
  isBegun: boolean,
): Promise<ViewFold> {
  type PastFold = (rows: ViewRows<Table>, message: never) => void
  const folds: Record<string, Record<string, PastFold>> = { tables: {}, requests: {}, events: {} }
  const { realm, deriving } = program
  const sealed = (value: unknown) => {
    assertSynchronous(value)
    return realm.seal(value)
  }
  for (const { source, fold: act } of program.app.fills.filter((each) => each.table === table)) {
    folds[`${source.kind}s`]![source.name] = (rows, message: PastMessage) => {
      if (source.kind === 'table') return act(rowsUnder(message.key[0]!, rows), message)
      const { name: type, version: newest } = source
      const isEvent = source.kind === 'event'
      const [what, name] = isEvent ? (['an event', 'data'] as const) : (['a request', 'input'] as const)
      if (message.version > newest)
        throw unknownVersion(`Record ${message.token}`, what, type, message.version, newest)
      const value = upcastToNewest(source, message.version, message[name], sealed)
      const key = isEvent ? (message.key as string) : source.key(value as never)
      return act(rowsUnder(key, rows), realm.seal({ ...message, [name]: value }))
    }
  }
  const rowsUnder = (key: string, rows: ViewRows<Table>) =>
    Object.freeze({
      get: (...parts: KeyPart[]) => rows.get(key, ...(parts as never[])),
      delete: (...parts: KeyPart[]) => rows.delete(key, ...(parts as never[])),
      put(...partsThenValue: unknown[]) {
        const row = realm.seal(partsThenValue.at(-1))
        const parts = partsThenValue.slice(0, -1)
        if (parts.some((part) => Math.abs(part as number) === Number.POSITIVE_INFINITY))
          throw changeError('key-invalid', 'A part of a key is infinite, which JSON does not keep.')
        if (checked) checkRow(`row of table "${table.name}"`, table.value, row)
        rows.put(key, ...(parts as never[]), row as never)
      },
      scan(query: Query = {}) {
        deriving.active = false
        try {
          return realm.rows(fold.table.scan(query, encodeKey([key])))
        } finally {
          deriving.active = true
        }
      },
    })
  const view: View = { ...table, scope: 'views', sql: undefined, folds: folds as never }
  // Deaths are counted for this code alone.
  const of = { name: table.name, version: `fill${program.version}`, generation: 0 }
  await storage.dropStore(storeOf(of))
  const fold = await ViewFold.open({ storage }, of, { ...program, views: new Map([[table.name, view]]) })
  fold.stopped = fillFailed(isBegun)
  return fold
}

/** A message of any kind. */
interface PastMessage {
  readonly key: string | readonly string[]
  readonly version: number
  readonly token: string
  readonly data: unknown
  readonly input: unknown
}

const fillFailed =
  (isBegun: boolean) =>
  (table: string, where: string, error: unknown): HenceError => {
    // A disk that is full, for example.
    if (error instanceof HenceError && error.advice !== 'change') return error
    // It has ended once before.
    const then = isBegun
      ? 'Some of its rows are in the log already: start the same code again, with a larger `derivationMs` if it ' +
        'did not end.'
      : 'Nothing was changed: mend the fill, or start the code before.'
    return changeError(
      'fill-failed',
      `The fill of the table "${table}" stopped ${where}: ${thrownIn(error)}. ${then}`,
      { cause: error },
    )
  }

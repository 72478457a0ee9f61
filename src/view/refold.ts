import { mkdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { App } from '../app/index.ts'
import { unequalEntries } from '../diff/merge.ts'
import { shown, thrownText } from '../failure.ts'
import { keptCode } from '../generation/codes.ts'
import type { Generation } from '../generation/generation.ts'
import { keysOf } from '../generation/imprint.ts'
import type { Log } from '../log/log.ts'
import type { Applied } from '../processor/applied.ts'
import { sandboxedViews } from '../sandbox/program.ts'
import { canonicalRows, digest, type NamedEntries } from '../state/digest.ts'
import { decodeKey } from '../state/keys.ts'
import { copyLmdbStore } from '../state/lmdb-check.ts'
import { openLmdbStore } from '../state/lmdb-store.ts'
import { stateFolder } from '../storage/states.ts'
import { kept, type Storage } from '../storage/storage.ts'
import { gatheredMax } from './derive.ts'
import { messagesOf, ReplayedOrder } from './feed.ts'
import { type ManifestEntry, storeOf, ViewFold } from './fold.ts'
import { entriesOf, readViewsManifest } from './manifest.ts'
import { copySql, SqlViews, sqlFile, wrongColumns } from './sql.ts'

/** The changed rows of a view that are kept in memory at most. */
const rowsMax = 10_000

/** How much space a copy of the rows of all views takes. */
export async function viewsSize(data: string): Promise<number> {
  const entries = entriesOf(await readViewsManifest((name) => kept(data, name)))
  const files = new Set(entries.map((of) => fileOf(data, of)))
  let size = 0
  for (const file of files) size += (await stat(file).catch(() => undefined))?.size ?? 0
  return size
}

const fileOf = (data: string, of: ManifestEntry) =>
  of.sql === undefined ? join(stateFolder(data, storeOf(of)), 'data.mdb') : join(data, sqlFile)

/**
 * Copies the rows of views as of one moment each, and returns the views. A process may have the data
 * directory open.
 * @param to a folder that becomes like a data directory
 */
export async function copyViews(data: string, to: string): Promise<readonly ManifestEntry[]> {
  const manifest = async () => {
    const entries = entriesOf(await readViewsManifest((name) => kept(data, name)))
    return entries.filter(({ failed }) => failed === undefined)
  }
  await mkdir(join(to, 'state'), { recursive: true, mode: 0o700 })
  const copied: ManifestEntry[] = []
  for (const view of await manifest()) {
    try {
      if (view.sql === undefined) {
        const folder = stateFolder(to, storeOf(view))
        await mkdir(folder, { mode: 0o700 })
        await copyLmdbStore(stateFolder(data, storeOf(view)), folder)
      } else if (!copied.some(({ sql }) => sql !== undefined)) copySql(data, to)
      copied.push(view)
    } catch (error) {
      // Other rows may answer by now.
      if ((await manifest()).some((each) => storeOf(each) === storeOf(view))) throw error
    }
  }
  return copied
}

export type Refold = Awaited<ReturnType<typeof openRefold>>

/**
 * Folds views a second time, while the log is derived again, up to where copies of their rows were folded,
 * and compares both.
 * @param of the copied views, and the number of the generation that is derived again: views of others do not
 *   count
 * @param folder where they were copied to
 * @param data the data directory, which has their code
 */
export async function openRefold(
  of: { readonly views: readonly ManifestEntry[]; readonly generation: number },
  { data, folder, log }: { readonly data: string; readonly folder: string; readonly log: Log },
) {
  const order = new ReplayedOrder()
  const pairs: { readonly saved: ViewFold; readonly again: ViewFold }[] = []
  const views = of.views.filter(({ generation }) => generation === of.generation)
  const inSql = views.some(({ sql }) => sql !== undefined)
  const sql = SqlViews.open(inSql ? folder : undefined, inSql, ({ message }) => {
    throw new Error(message)
  })
  const storageIn = (folder: string): Pick<Storage, 'log' | 'openStore'> => ({
    log,
    openStore: (name, collections) => openLmdbStore({ directory: stateFolder(folder, name), collections }),
  })
  for (const view of views) {
    const program = sandboxedViews(await keptCode((name) => kept(data, name), view.version))
    const saved = await ViewFold.open({ storage: storageIn(folder), sql }, view, program)
    // Derived for the first time, it has none.
    if (saved.positions === undefined) await saved.close()
    else {
      const storage = storageIn(join(folder, `again-${of.generation}`))
      pairs.push({ saved, again: await ViewFold.open({ storage, notesRecords: true }, view, program) })
    }
  }
  return {
    /** By partition: how far the log must be derived again, at least so far. */
    ends(positions: readonly number[]): number[] {
      const all = [positions, ...pairs.map(({ saved }) => saved.positions!)]
      return positions.map((_, partition) => Math.max(...all.map((each) => each[partition]!)))
    },
    /** @param frontier records with an earlier log time come in its order */
    add(applied: Applied, app: App, frontier?: number): void {
      if (pairs.length > 0) order.add(applied, app, frontier)
    },
    /** Whether enough records have gathered to fold them. */
    get isDue(): boolean {
      return order.ready >= gatheredMax
    },
    /** Folds what has gathered; to be called before the generation forgets outcomes. */
    async fold({ program: { app }, processor, derivationMs }: Generation): Promise<void> {
      const again = pairs.map((pair) => pair.again)
      const messages = await messagesOf(order.take(), { app, log, processor }, again)
      for (const { saved, again } of pairs) {
        const before = messages.filter(({ partition, offset }) => offset < saved.positions![partition]!)
        await again.fold(before, derivationMs, () => undefined)
        await again.saveIfDue(rowsMax)
      }
    },
    /** All has been added. */
    ended(): void {
      order.pass(Number.POSITIVE_INFINITY)
    },
    /** The first difference of each view, in words, and the digest of its rows. */
    compare() {
      return pairs.map(({ saved, again }) => {
        const { name, version, positions } = saved
        const view = { name, version, positions: positions!, sha256: digest([again.table]) }
        return { difference: differenceOf(saved, again, folder), view }
      })
    },
    async close(): Promise<void> {
      for (const { saved, again } of pairs) for (const each of [saved, again]) await each.close()
      await sql?.close()
    },
  }
}

function differenceOf(saved: ViewFold, again: ViewFold, folder: string): string | undefined {
  if (again.failure !== undefined) return again.failure.message
  const { kinds, name } = again.table
  const row = (key: string) => {
    const record = again.recordOf(key)
    const where = record === undefined ? '' : `, which record ${record} changed last,`
    return `${JSON.stringify({ view: name, key: decodeKey(kinds, key).parts })}${where}`
  }
  try {
    const before = partsOf(saved)
    for (const [i, [part, entries]] of partsOf(again).entries()) {
      for (const entry of unequalEntries(before[i]![1], entries)) {
        if (entry === undefined) continue
        const what = i === 0 ? row(entry.key) : `${JSON.stringify({ view: name, index: part })}`
        return `${what} is ${short(entry.before)} and should be ${short(entry.after)}`
      }
    }
    if (saved.view.sql === undefined) return undefined
    for (const key of wrongColumns(folder, storeOf(saved), saved.view))
      return `${row(key)} has other values in its columns`
    return undefined
  } catch (error) {
    return `the view "${name}" cannot be read: ${thrownText(error)}`
  }
}

/** The rows of a view, and the entries of its indexes. */
function partsOf({ table }: ViewFold): NamedEntries[] {
  const indexes = [...table.indexEntries()].map(([name, entries]): NamedEntries => [name, keysOf(entries)])
  return [[table.name, canonicalRows(table.rows())], ...indexes]
}

/** A row as a difference shows it. */
export const short = (text: string | undefined) => (text === undefined ? 'absent' : shown(text, 200))

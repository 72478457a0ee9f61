import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { chmod, cp, mkdir, mkdtemp, open, readdir, rm, stat, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, sep } from 'node:path'
import { after, before, test } from 'node:test'
import {
  type App,
  type AppBundle,
  bundleApp,
  createEngine,
  type Engine,
  type HenceError,
  systemClock,
} from 'hence'
import { doctor } from 'hence/offline'
import { openDirectory } from '../../src/storage/storage.ts'
import type * as orderApps from '../apps/corrected-orders.ts'
import { appsOf } from '../apps.ts'
import { randomFrom } from '../random.ts'

// Every kind of file of a data directory is broken in every way. Whatever a start refuses `doctor` names
// first, with the same words; and where `doctor` finds nothing wrong a start succeeds.

const { orders } = appsOf<typeof orderApps>(import.meta.resolve('../apps/corrected-orders.ts'))
let home: string
let modules: { readonly orders: AppBundle; readonly sales: AppBundle; readonly views: AppBundle }

before(async () => {
  home = await mkdtemp(join(tmpdir(), 'hence-broken-'))
  modules = {
    orders: await orders('upper', true),
    sales: await bundleApp(import.meta.resolve('../apps/sales.ts')),
    views: await bundleApp(import.meta.resolve('../apps/sales-views.ts')),
  }
  const first = await start('orders', join(home, 'orders'), await orders('first'))
  for (const name of ['a', 'b']) await first.submit('place', { name } as never, { requestId: name })
  await first.reprocessing.start({ app: modules.orders })
  const { sha256: diff } = await first.reprocessing.diff()
  await first.reprocessing.promote({ diff }, { requestId: 'p' })
  await first.idle()
  await first.close()
  const second = await start('sales', join(home, 'sales'))
  for (const order of ['a', 'b'])
    await second.submit('buy', { order, sku: 's', customer: 'c', cents: 1 } as never, { requestId: order })
  await second.idle()
  await second.close()
  for (const name of ['orders', 'sales']) await (await start(name as Kind, join(home, name))).close()
})

after(() => rm(home, { recursive: true, force: true }))

async function start(kind: Kind, directory: string, code = modules[kind]): Promise<Engine<App>> {
  const options = { directory, partitions: 2, clock: systemClock, report: () => {}, segmentBytes: 16 * 1024 }
  const data = await openDirectory(options)
  const given = { app: code, data, audit: kind === 'orders', report: () => {} }
  return createEngine({ ...given, ...(kind === 'sales' && { views: [modules.views] }) } as never)
}

const ways = {
  absent: (path: string) => rm(path),
  empty: (path: string) => truncate(path, 0),
  cut: async (path: string) => truncate(path, (await stat(path)).size >> 1),
  flipped: async (path: string) => {
    const file = await open(path, 'r+')
    const at = (await file.stat()).size >> 1
    const { buffer } = await file.read(Buffer.alloc(1), 0, 1, at)
    await file.write(Buffer.of(buffer[0]! ^ 4), 0, 1, at)
    await file.close()
  },
  folder: async (path: string) => {
    await rm(path)
    await mkdir(path)
  },
  forbidden: (path: string) => chmod(path, 0),
}

type Kind = 'orders' | 'sales'
type Way = keyof typeof ways

/** The superuser may read everything. */
const waysHere = (Object.keys(ways) as Way[]).filter((way) => way !== 'forbidden' || process.getuid?.() !== 0)

/** Files that differ only in a number or a hash are of one kind. */
const kindOf = (name: string) => name.replace(/[0-9a-f]{16,}/g, 'HASH').replace(/\d+/g, 'N')

async function filesIn(folder: string): Promise<string[]> {
  const found = await readdir(folder, { recursive: true, withFileTypes: true })
  const names = found.filter((each) => each.isFile()).map((each) => join(each.parentPath, each.name))
  return names.map((name) => name.slice(folder.length + 1).replaceAll(sep, '/')).sort()
}

/** Of each kind one file, the last: with numbers, the newest. */
async function cases(app: Kind): Promise<{ name: string; way: Way }[]> {
  const byKind = new Map((await filesIn(join(home, app))).map((name) => [kindOf(name), name]))
  return [...byKind.values()].flatMap((name) => waysHere.map((way) => ({ name, way })))
}

const isAll = process.env['HENCE_ERRNOS'] === 'all'
const seed = Number(process.env['HENCE_SEED'] ?? randomInt(2 ** 31))

for (const app of ['orders', 'sales'] as const)
  test(`${app}: what a start refuses doctor names first, and else finds nothing wrong`, async (t) => {
    const random = randomFrom(seed)
    const all = await cases(app)
    const some = isAll ? all : all.sort(() => random() - 0.5).slice(0, 6)
    let refusals = 0
    for (const { name, way } of some) {
      // Each its own, also after one that failed.
      const data = join(home, `broken-${app}`)
      await cp(join(home, app), data, { recursive: true })
      await ways[way](join(data, name))
      const { findings } = await doctor({ data })
      const wrong = findings.filter(({ level }) => level === 'wrong')
      let refused: HenceError | undefined
      try {
        await (await start(app, data)).close()
      } catch (error) {
        refused = error as HenceError
      }
      const what = `${name}, ${way}, seed ${seed}`
      if (refused === undefined) assert.deepEqual(wrong, [], what)
      else {
        refusals++
        // A copy of a directory has no key, and starts without an audit.
        const missing = findings.find(({ code }) => code === 'signing-key-missing')
        const first = wrong[0] ?? missing
        assert.deepEqual([first?.code, first?.message], [refused.code, refused.message], what)
      }
      await rm(data, { recursive: true })
    }
    t.diagnostic(`${some.length} of ${all.length} damaged files, ${refusals} refused`)
  })

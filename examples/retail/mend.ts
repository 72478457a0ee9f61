import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { createEngine, type Diff, type Engine, type Handlers, HenceError } from 'hence'
import { type ShopOptions, shopCommand } from './command.ts'
import { describeDiff } from './difference.ts'
import { importAll } from './import.ts'
import { describeLetters, postTo, readPost } from './post.ts'
import { showProgress } from './progress.ts'
import type { Shop } from './shop.ts'
import { openSource, type Source } from './source.ts'
import { grouped, revenueOf } from './summary.ts'

const command = shopCommand(
  'npm run retail:mend --',
  'directory for everything (default: data/retail-mend/ and the name of the source)',
)
  .description(
    'Derives the orders of a shop with version 1, which has bugs, mends them with version 2, and rolls back.',
  )
  .option('--json', 'print each step as a line of JSON')
  .addHelpText(
    'after',
    `
The directory holds, besides the shop's own data, differences.ndjson (what version 2 makes otherwise) and post.ndjson
(the letters to customers).

Stop it whenever you like, by Ctrl-C or by kill -9, and run the same command again: it goes on where it was.`,
  )
  .parse()
const options: ShopOptions = command.opts()

/** Prints a finished step, as text or as JSON. */
const tell = (step: Step, facts: Readonly<Record<string, unknown>>, text: string) =>
  console.log(options.json ? JSON.stringify({ step, ...facts }) : text)
/** Prints the next step, so that a test can kill this process in it. */
const begin = (step: Step) => options.json && console.log(JSON.stringify({ step, begins: true }))
type Step = 'import' | 'reprocess' | 'compare' | 'promote' | 'deliver' | 'roll-back'

try {
  await run()
} catch (error) {
  // The messages of Hence are for users; other errors show their stack.
  console.error(error instanceof HenceError ? `${error.code}: ${error.message}` : error)
  process.exitCode = 1
}

async function run(): Promise<void> {
  const source = await openSource(options)
  const directory = options.data ?? join('data', 'retail-mend', source.name)
  await mkdir(directory, { recursive: true })
  const postFile = join(directory, 'post.ndjson')
  const engine = await openAsItWas(join(directory, 'shop'), postTo(postFile))
  try {
    // Only the log knows where an earlier run stopped.
    const { reprocessing } = engine
    const promotions = async () =>
      (await reprocessing.history()).filter(({ type }) => type === 'promotion').length
    if ((await promotions()) === 0) {
      if ((await reprocessing.status()) === undefined) await importWithFirst(engine, source)
      await reprocess(engine)
      const diff = await compare(engine, join(directory, 'differences.ndjson'))
      begin('promote')
      await promote(
        engine,
        diff,
        'mend-the-books',
        'Thousandths that were cut off, and credit notes of guests.',
      )
      await tellBooks('promote', engine, 'Version 2 is live')
    }
    if ((await promotions()) === 1) {
      begin('deliver')
      await delivered(engine)
      const letters = await readPost(postFile)
      tell(
        'deliver',
        { letters: new Set(letters.map(({ id }) => id)).size },
        describeLetters(letters, postFile),
      )
      begin('roll-back')
      await promote(engine, await reprocessing.diff(), 'roll-back', 'Only to show a rollback.')
    }
    await tellBooks('roll-back', engine, 'Rolled back: version 1 is live')
  } finally {
    await engine.close()
  }
}

/** Opens the shop with the version in force: the first until the second is promoted, and again after a rollback. */
async function openAsItWas(data: string, handlers: Handlers<Shop>): Promise<Engine<Shop>> {
  const open = (module: string) =>
    createEngine<Shop>({
      app: import.meta.resolve(module),
      data,
      handlers,
      ...(options.partitions !== undefined && { partitions: options.partitions }),
    })
  try {
    return await open('./v1/shop.ts')
  } catch (error) {
    if (!(error instanceof HenceError && error.code === 'code-changed')) throw error
    return await open('./shop.ts')
  }
}

async function importWithFirst(engine: Engine<Shop>, source: Source): Promise<void> {
  begin('import')
  const progress = showProgress(source.count)
  const importing = { signal: new AbortController().signal, onDecided: progress.step }
  const tally = await importAll(engine, source.submissions(), importing).finally(progress.stop)
  if (tally.failed > 0) throw new Error(`${tally.failed} requests failed`)
  await tellBooks('import', engine, `Version 1 has decided ${source.count} requests`)
}

/** Derives everything again with version 2, beside the live tables. */
async function reprocess(engine: Engine<Shop>): Promise<void> {
  begin('reprocess')
  const { reprocessing } = engine
  await reprocessing.start({ app: import.meta.resolve('./shop.ts') })
  const { records } = await reprocessing.caughtUp()
  tell(
    'reprocess',
    { records },
    `Version 2 has derived all ${records} records beside it; none of it is visible yet.`,
  )
}

/** Prints the diff, which a person reads before they approve it. */
async function compare(engine: Engine<Shop>, file: string): Promise<Diff> {
  begin('compare')
  const lines: string[] = []
  const diff = await engine.reprocessing.diff({ samples: 2, each: (line) => lines.push(`${line}\n`) })
  await writeFile(file, lines.join(''))
  tell('compare', { sha256: diff.sha256, differences: diff.differences }, describeDiff(diff, file))
  return diff
}

/** Promotes the candidate with its corrections: once, however often it is sent with one id. */
async function promote(
  engine: Engine<Shop>,
  { sha256 }: Diff,
  requestId: string,
  note: string,
): Promise<void> {
  await engine.reprocessing.promote({ diff: sha256, note }, { requestId, principal: 'bookkeeper' })
}

/** Resolves when no effect is pending. */
async function delivered(engine: Engine<Shop>): Promise<void> {
  while ((await engine.effects.list({ limit: 1 })).length > 0) await delay(20)
}

async function tellBooks(step: Step, engine: Engine<Shop>, what: string): Promise<void> {
  // A reply comes before the events of its request have reached other partitions.
  await engine.idle()
  const [revenue, digest] = [await revenueOf(engine), await engine.digest()]
  tell(step, { revenue, digest }, `${what}: revenue £${grouped(revenue)}, digest ${digest.slice(0, 16)}…`)
}

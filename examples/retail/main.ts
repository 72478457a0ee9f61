import { join } from 'node:path'
import { createEngine, HenceError } from 'hence'
import { server } from 'hence/server'
import { type ShopOptions, shopCommand } from './command.ts'
import { importAll } from './import.ts'
import { showProgress } from './progress.ts'
import type shop from './shop.ts'
import { openSource } from './source.ts'
import { describe, describeBest, summarize } from './summary.ts'

const command = shopCommand(
  'npm start --',
  'directory of the log and the tables (default: data/retail/ and the name of the source)',
)
  .description('An online shop on Hence: imports orders, and derives tables from them.')
  .option('--once', 'exit when the import is done')
  .option('--json', 'print the summary as one line of JSON')
  .addHelpText(
    'after',
    `
Examples:
  npm start                                   import the sample, show the totals, stay up
  npm start -- --once --json                  the same for a program to read
  npm start -- --csv online-retail.csv.gz     import a real year of orders
  npm start -- --data /tmp/shop --partitions 8

Stop it whenever you like, by Ctrl-C or by kill -9, and run the same command again: it goes on where it was.

Exit codes: 0 done, 1 an error or a failed request, 130 or 143 stopped by a signal during the import.`,
  )
  .parse()
const options: ShopOptions & { readonly once?: true } = command.opts()

try {
  process.exitCode = await run()
} catch (error) {
  // The messages of Hence are for users; other errors show their stack.
  console.error(error instanceof HenceError ? `${error.code}: ${error.message}` : error)
  process.exitCode = 1
}

async function run(): Promise<number> {
  const stop = stopSignal()
  const source = await openSource(options)
  const data = options.data ?? join('data', 'retail', source.name)
  const engine = await createEngine<typeof shop>({
    app: import.meta.resolve('./shop.ts'),
    data,
    ...(options.partitions !== undefined && { partitions: options.partitions }),
  })
  try {
    const progress = showProgress(source.count)
    const startedAt = performance.now()
    const tally = await importAll(engine, source.submissions(), {
      signal: stop.signal,
      onDecided: progress.step,
    }).finally(progress.stop)
    const seconds = (performance.now() - startedAt) / 1000
    if (stop.signal.aborted) {
      console.error('Stopped before the end. Run the same command again to continue.')
      return stop.exitCode()
    }

    const summary = await summarize(engine, tally, seconds)
    console.log(options.json ? JSON.stringify(summary) : describe(summary, tally.reasons))
    if (!options.once) {
      // With --json the summary stays the last line of the output, for programs.
      const say = options.json ? console.error : console.log
      const web = server(engine, { open: true, report: () => {} })
      const { url } = await listen(web)
      say(
        `\n${await describeBest(engine)}\n\nThe log and the tables are in ${data}.\n` +
          `Look at them in the console: ${url}/console. Press Ctrl-C to stop.`,
      )
      await stop.asked
      await web.close()
    }
    return summary.failed > 0 ? 1 : 0
  } finally {
    await engine.close()
  }
}

/** At any free port if the usual one is taken. */
function listen(web: ReturnType<typeof server>) {
  return web.listen({ port: 4363 }).catch(() => web.listen({ port: 0 }))
}

/** The first SIGINT or SIGTERM asks for a graceful stop, the second one ends the process. */
function stopSignal() {
  const controller = new AbortController()
  let code = 0
  const asked = new Promise<void>((resolve) => {
    for (const [signal, exitCode] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
    ] as const) {
      process.on(signal, () => {
        if (controller.signal.aborted) process.exit(exitCode)
        code = exitCode
        controller.abort()
        resolve()
      })
    }
  })
  return { signal: controller.signal, asked, exitCode: () => code }
}

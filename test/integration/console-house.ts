import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { createEngine, type Engine, HenceError } from 'hence'
import { type ServerOptions, server } from 'hence/server'
import { memoryStorage } from 'hence/testing'
import type { BrowserContext, Page } from 'playwright-core'
import type * as made from '../../examples/airline/airline.ts'
import type { Airline } from '../../examples/airline/airline.ts'
import { fly } from '../../examples/airline/traffic.ts'
import { appsOf } from '../apps.ts'
import { randomFrom } from '../random.ts'

/** The airline with its faults, served with its console. */
export interface ConsoleHouse {
  readonly engine: Engine<Airline>
  /** The address of the console, with a slash at its end. */
  readonly url: string
}

/** Builds the console unless what is built is newer than its sources. */
export async function buildConsole(): Promise<void> {
  const build = fileURLToPath(import.meta.resolve('../../console/build.ts'))
  await promisify(execFile)(process.execPath, [build, '--if-stale'])
}

interface HouseOptions extends Partial<ServerOptions> {
  readonly flights?: number
  /** Code that lets half as many seats again be sold is derived as the candidate. */
  readonly candidate?: boolean
  /** Default: true. */
  readonly audit?: boolean
  /** A directory; default: memory. */
  readonly data?: string
}

const { airline } = appsOf<typeof made>(import.meta.resolve('../../examples/airline/airline.ts'))

export async function consoleHouse(
  t: Pick<TestContext, 'after'>,
  options: HouseOptions = {},
): Promise<ConsoleHouse> {
  const { flights = 6, candidate = false, audit = true, data, ...serving } = options
  const engine = await createEngine<Airline>({
    app: import.meta.resolve('../../examples/airline/reviewed.ts'),
    ...(data === undefined ? { data: memoryStorage({ partitions: 4 }) } : { data, partitions: 4 }),
    audit,
    report: () => {},
    handlers: {
      rebook({ input }: { input: { flight: string } }) {
        if (input.flight.endsWith('-last'))
          throw new HenceError('no-other-flight', 'change', 'There is none.')
        return { flight: `${input.flight}-next` }
      },
      pay: {
        deliver() {
          throw new Error('the bank answered 503')
        },
        triesMax: 2,
        delayMs: 0,
      },
    },
  })
  await fly(engine, { random: randomFrom(7), name: 'day', flights })
  for (;;) {
    await engine.idle()
    if ((await engine.effects.list({ limit: 1 })).length === 0) break
    await new Promise(setImmediate)
  }
  if (candidate) {
    await engine.reprocessing.start({ app: await airline('loose', { percent: 50 }, 'human') }, { share: 1 })
    await engine.reprocessing.caughtUp()
  }
  const web = server(engine, { open: true, report: () => {}, ...serving })
  const { url } = await web.listen()
  t.after(async () => {
    await web.close()
    await engine.close()
  })
  return { engine, url: `${url}${serving.path ?? ''}/console/` }
}

/** A tab that remembers what it must not do. */
export interface Watched {
  readonly page: Page
  /** Violations of the policy, errors of the page, and requests to anywhere else. */
  readonly faults: string[]
}

export async function watchedTab(context: BrowserContext, url: string): Promise<Watched> {
  const page = await context.newPage()
  const faults: string[] = []
  const { origin } = new URL(url)
  await page.exposeFunction('refused', (what: string) => faults.push(`policy: ${what}`))
  await page.addInitScript(
    `addEventListener('securitypolicyviolation', (e) => refused(e.violatedDirective + ' ' + e.blockedURI + ' ' + e.sample))`,
  )
  page.on('pageerror', (error) => faults.push(`error: ${error.message}`))
  page.on('request', (request) => {
    if (!request.url().startsWith(origin) && !request.url().startsWith('blob:'))
      faults.push(`sent to ${request.url()}`)
  })
  return { page, faults }
}

const axe = await readFile(fileURLToPath(import.meta.resolve('axe-core')), 'utf8')

/** The violations of WCAG 2.2 A and AA that axe-core finds, as text. */
export async function accessibilityFaults(page: Page): Promise<string[]> {
  await page.evaluate(`${axe}; undefined`)
  const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
  const { violations } = (await page.evaluate(
    `axe.run(document, { runOnly: ${JSON.stringify(tags)}, resultTypes: ['violations'] })`,
  )) as { violations: { id: string; help: string; nodes: { html: string; failureSummary: string }[] }[] }
  return violations.map(
    ({ id, help, nodes }) => `${id}: ${help}: ${nodes[0]!.html} ${nodes[0]!.failureSummary}`,
  )
}

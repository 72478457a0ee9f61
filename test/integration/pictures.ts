import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Engine } from 'hence'
import type { Page } from 'playwright-core'
import type { Airline } from '../../examples/airline/airline.ts'
import { fly } from '../../examples/airline/traffic.ts'
import { randomFrom } from '../random.ts'
import { openChromium } from './chromium.ts'
import { buildConsole, consoleHouse, watchedTab } from './console-house.ts'

// `npm run pictures`: the pictures of the docs, in light and dark, of the airline with more than 10,000
// records, its faults, and requests under way. To look at the console yourself:
//
//   npm run pictures -- --folder /tmp/looks --flights 10 --phone

const { values: given } = parseArgs({
  options: {
    folder: { type: 'string' },
    flights: { type: 'string', default: '240' },
    phone: { type: 'boolean', default: false },
  },
})
const { folder = join(import.meta.dirname, '../../docs/pictures') } = given
const flights = Number(given.flights)
const recordsMin = flights < 240 ? 0 : 10_000
const viewport = given.phone ? { width: 390, height: 844 } : { width: 1180, height: 820 }

await buildConsole()
const browser = await openChromium()
if (typeof browser === 'string') throw new Error(browser)
const ends: (() => unknown)[] = []
const { engine, url } = await consoleHouse(
  { after: (end) => ends.unshift(end as never) },
  {
    flights,
    candidate: true,
  },
)
await mkdir(folder, { recursive: true })

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))
/** Requests go on over HTTP, so that the plots have lines. */
let isOver = false
const sending = (async () => {
  const overHttp = {
    ...{ idle: () => engine.idle(), violations: engine.violations },
    async submit(type: string, input: object, { requestId }: { requestId: string }) {
      const headers = { 'content-type': 'application/json', 'idempotency-key': requestId }
      const address = new URL(`../requests/${type}`, url)
      await (await fetch(address, { method: 'POST', headers, body: JSON.stringify(input) })).text()
    },
  } as unknown as Engine<Airline>
  const random = randomFrom(11)
  for (let n = 0; !isOver; n++) {
    await fly(overHttp, { random, name: `live${n}`, flights: 6, before: () => pause(15 + 50 * random()) })
  }
})()
await pause(recordsMin === 0 ? 5_000 : 60_000)

const records = (await engine.log.ends()).reduce((sum, end) => sum + end, 0)
const [resolved] = await engine.violations.list({ state: 'resolved' })
const { requestId, principal } = resolved!.victims[0]!
const [dead] = await engine.effects.list({ state: 'dead' })
const shown = async (page: Page) => page.getByText('would change').waitFor()
const views: readonly (readonly [name: string, path: string, act?: (page: Page) => Promise<void>])[] = [
  ['overview', '', (page) => page.locator('.uplot').nth(1).waitFor()],
  ['log', 'log?partition=1&from=900&record=1:905'],
  ['request', `request?id=${requestId}&principal=${principal}&step=3`],
  ['violations', 'violations', shown],
  ['effects', `effects?state=dead&id=${dead!.id}`],
  ['reprocess', 'reprocess', (page) => page.getByText('Approve exactly').first().waitFor()],
]
/** Not in the docs. */
const { pastSince = 0, logTime } = engine.stats()
const row = encodeURIComponent(JSON.stringify([resolved!.victims[0]!.key]))
const others = [
  ['tables', 'tables?table=bookings&index=byOwner'],
  ['past', `tables?table=bookings&row=${row}&at=${Math.round((pastSince + logTime) / 2)}`],
  ['key', `log?key=${encodeURIComponent(resolved!.key)}`],
  ['waits', 'effects?state=done'],
  ['send', 'send?type=book'],
  ['audit', `audit?id=${requestId}&principal=${principal}`],
] as const
let [count, bytes] = [0, 0]
for (const colorScheme of ['light', 'dark'] as const) {
  const context = await browser.newContext({ viewport, colorScheme })
  const { page, faults } = await watchedTab(context, url)
  for (const [name, path, act] of given.folder === undefined ? views : [...views, ...others]) {
    await page.goto(url + path)
    await page.getByRole('heading', { level: 1 }).waitFor()
    await page.waitForLoadState('networkidle', { timeout: 3_000 }).catch(() => {})
    await act?.(page)
    await pause(1_500)
    const session = await context.newCDPSession(page)
    const { data } = await session.send('Page.captureScreenshot', { format: 'webp', quality: 60 })
    const picture = Buffer.from(data, 'base64')
    bytes += picture.length
    count++
    await writeFile(join(folder, `${name}-${colorScheme}.webp`), picture)
    const wide = await page.evaluate(
      `document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll('main *')]
        .filter((each) => each.getBoundingClientRect().right > innerWidth && !each.closest('.scroll-x'))
        .map((each) => each.outerHTML.slice(0, 80))`,
    )
    if ((wide as string[]).length > 0) console.error(`${name} is too wide:`, wide)
  }
  if (faults.length > 0) throw new Error(faults.join('\n'))
}
isOver = true
await sending
for (const end of ends) await end()
await browser.close()
if (records < recordsMin) throw new Error(`The pictures show ${records} records, and not ${recordsMin}.`)
console.log(`${count} pictures of ${records} records, ${bytes} bytes, in ${folder}`)

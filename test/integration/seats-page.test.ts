import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createEngine } from 'hence'
import type { BrowserContext, Page } from 'playwright-core'
import type seats from '../../examples/seats/seats.ts'
import { crashAt } from '../crash-points.ts'
import { openChromium } from './chromium.ts'
import { SeatsHouse } from './seats-house.ts'

// The page of examples/seats in a real browser, with its IndexedDB, service worker, tabs and network. The
// worst result would be a seat that is booked twice, or shown as booked when it is not; then a request that
// is lost.

const browser = await openChromium()
const skip = typeof browser === 'string' ? browser : false
if (skip) console.error(`The page of examples/seats is NOT tested here. ${skip}`)
after(async () => {
  if (typeof browser !== 'string') await browser.close()
})
const options = { skip, timeout: 180_000 }

async function house(t: TestContext): Promise<SeatsHouse> {
  const opened = await SeatsHouse.open()
  t.after(() => opened.close())
  return opened
}

/** A separate browser profile: another passenger. */
async function passenger(t: TestContext): Promise<BrowserContext> {
  assert.ok(typeof browser !== 'string')
  const context = await browser.newContext()
  context.setDefaultTimeout(60_000)
  t.after(() => context.close())
  return context
}

/** A tab with the page, once the page would also open without a network. */
async function tab(context: BrowserContext, url: string): Promise<Page> {
  const page = await context.newPage()
  await page.goto(url)
  await page.evaluate(() => (globalThis as never as Worked).navigator.serviceWorker.ready.then(() => {}))
  await seat(page, '1A').waitFor()
  return page
}

type Worked = { navigator: { serviceWorker: { ready: Promise<unknown> } } }

/** A browser in emulated offline mode is online for a moment when a page reloads, so the server goes away too. */
async function network(context: BrowserContext, house: SeatsHouse, isThere: boolean): Promise<void> {
  house.unplug(!isThere)
  await context.setOffline(!isThere)
}

const seat = (page: Page, name: string) => page.locator(`#map button[name="${name}"]`)
const card = (page: Page, name: string) => page.locator(`#cards [data-seat="${name}"]`)
const button = (page: Page, action: 'Book' | 'Give back', name: string) =>
  card(page, name).getByRole('button', { name: `${action} seat ${name}` })
const shows = (page: Page, name: string, look: string) =>
  page.locator(`#map button[name="${name}"][data-look="${look}"]`).waitFor()
const says = (page: Page, text: RegExp | string) => page.locator('#own').getByText(text).first().waitFor()

async function hold(page: Page, name: string): Promise<void> {
  await seat(page, name).click()
  await shows(page, name, 'held')
}

test('offline in the middle of a booking, reloaded offline, back online: booked once', options, async (t) => {
  const at = await house(t)
  const { engine, url } = at
  const context = await passenger(t)
  const page = await tab(context, url)
  await hold(page, '4C')
  await network(context, at, false)
  await button(page, 'Book', '4C').click()
  await says(page, 'To be booked. It will be sent when you are online.')
  assert.equal(await page.locator('#connection').textContent(), 'Offline')

  await page.reload()
  await says(page, 'To be booked. It will be sent when you are online.')
  await shows(page, '4C', 'waiting')
  assert.equal(await seat(page, '4D').getAttribute('data-look'), 'free', 'the map changed')
  await look(page, 'offline')
  assert.deepEqual(await at.log(), ['open-flight', 'hold-seat'])

  await network(context, at, true)
  await shows(page, '4C', 'booked')
  await says(page, 'Seat 4C is booked.')
  await look(page, 'booked')
  assert.deepEqual(await at.log(), ['open-flight', 'hold-seat', 'book-seat'])
  assert.equal((await engine.get('seats', ['HE101', 4, 'C']))?.state, 'booked')
})

test('the answer to a booking is lost, then the network, then the page: booked once', options, async (t) => {
  const at = await house(t)
  const { engine, url } = at
  const context = await passenger(t)
  const page = await tab(context, url)
  await hold(page, '7F')
  at.cuts = 'book-seat'
  const cut = at.cut()
  await button(page, 'Book', '7F').click()
  await cut
  await network(context, at, false)
  await says(page, 'It will be sent when you are online.')
  assert.equal(
    (await engine.get('seats', ['HE101', 7, 'F']))?.state,
    'booked',
    'the engine has not booked it',
  )
  await page.reload()
  await says(page, 'It will be sent when you are online.')
  at.cuts = undefined
  await network(context, at, true)
  await says(page, 'Seat 7F is booked.')
  await shows(page, '7F', 'booked')
  const { replies } = engine.stats()
  assert.deepEqual(
    { ...replies, replayed: replies.replayed > 0 },
    {
      accepted: 3,
      rejected: 0,
      failed: 0,
      replayed: true,
    },
  )
})

test('a seat held and booked offline is held and booked in this order', options, async (t) => {
  const at = await house(t)
  const { url } = at
  const context = await passenger(t)
  const page = await tab(context, url)
  await context.setOffline(true)
  await seat(page, '9A').click()
  await says(page, 'To be held for you. It will be sent when you are online.')
  await button(page, 'Book', '9A').click()
  await says(page, 'To be booked. It will be sent when you are online.')
  await page.close()
  await context.setOffline(false)
  const next = await tab(context, url)
  await shows(next, '9A', 'booked')
  assert.deepEqual(await at.log(), ['open-flight', 'hold-seat', 'book-seat'])
})

for (const offline of [false, true]) {
  const how = offline ? 'offline' : 'online'
  test(`one passenger clicks in two tabs at once, twice in each, ${how}: booked once`, options, async (t) => {
    const { engine, url } = await house(t)
    const context = await passenger(t)
    const tabs = [await tab(context, url), await tab(context, url)]
    await hold(tabs[0]!, '2B')
    const books = tabs.map((page) => button(page, 'Book', '2B'))
    await Promise.all(books.map((book) => book.waitFor()))
    if (offline) await context.setOffline(true)
    const handles = await Promise.all(books.map((book) => book.elementHandle()))
    await Promise.all(
      handles.map((handle) =>
        handle!.evaluate((element) => {
          const { click } = element as never as { click(): void }
          click.call(element)
          click.call(element)
        }),
      ),
    )
    if (offline) {
      for (const page of tabs) await says(page, 'It will be sent when you are online.')
      await context.setOffline(false)
    }
    for (const page of tabs) {
      await shows(page, '2B', 'booked')
      await says(page, /^Seat 2B is booked/)
    }
    const { accepted, rejected, failed } = engine.stats().replies
    assert.equal(accepted, 3, 'opened, held, and booked once')
    // If both tabs stored a request before they knew of each other, the second was rejected as booked
    // already.
    assert.ok(rejected <= 1, `${rejected} rejected`)
    assert.equal(failed, 0)
  })
}

test('two passengers want one seat: one gets it, the other sees a message', options, async (t) => {
  const at = await house(t)
  const { engine, url } = at
  const pages = [await tab(await passenger(t), url), await tab(await passenger(t), url)]
  // Both ask before either is answered, since a seat that shows as taken cannot be asked for.
  at.gather('hold-seat', 2)
  await Promise.all(pages.map((page) => seat(page, '5D').click()))
  const outcomes = await Promise.all(
    pages.map((page) =>
      Promise.race([
        shows(page, '5D', 'held').then(() => 'held'),
        says(page, 'Somebody else was faster: seat 5D is taken.').then(() => 'told'),
      ]),
    ),
  )
  assert.deepEqual(outcomes.toSorted(), ['held', 'told'])
  const [has, lost] = outcomes[0] === 'held' ? pages : pages.toReversed()
  await shows(lost!, '5D', 'taken')
  await look(lost!, 'told')
  await button(has!, 'Book', '5D').click()
  await shows(has!, '5D', 'booked')
  assert.equal(await card(lost!, '5D').count(), 0)

  // A seat that one passenger releases becomes free on the other's page by itself.
  await button(has!, 'Give back', '5D').click()
  await shows(lost!, '5D', 'free')
  assert.deepEqual(await engine.scan('passengers'), [])
})

test(
  'a seat that was taken while the passenger was offline is refused with a message',
  options,
  async (t) => {
    const { url } = await house(t)
    const [late, other] = [await passenger(t), await passenger(t)]
    const page = await tab(late, url)
    const faster = await tab(other, url)
    await late.setOffline(true)
    await seat(page, '3A').click()
    await button(page, 'Book', '3A').click()
    await hold(faster, '3A')
    await late.setOffline(false)
    await says(page, 'Somebody else was faster: seat 3A is taken. Please choose another.')
    await shows(page, '3A', 'taken')
    assert.equal(await page.locator('#notes .note').count(), 1, 'the booking behind it shows another message')
  },
)

test('the page works with the keyboard alone', options, async (t) => {
  const { url } = await house(t)
  const page = await tab(await passenger(t), url)
  const { keyboard } = page
  await keyboard.press('Tab')
  for (const key of ['ArrowDown', 'ArrowDown', 'ArrowRight', 'End', 'ArrowLeft', 'ArrowUp', 'Enter'])
    await keyboard.press(key)
  await shows(page, '2E', 'held')
  await keyboard.press('Tab')
  assert.equal(await button(page, 'Book', '2E').evaluate(isFocused), true)
  await look(page, 'keyboard')
  await keyboard.press('Enter')
  await shows(page, '2E', 'booked')
  assert.equal(await card(page, '2E').evaluate(isFocused), true, 'the focus moved')
})

function isFocused(element: unknown): boolean {
  return (globalThis as never as { document: { activeElement: unknown } }).document.activeElement === element
}

test('a tab whose passenger is gone sends nothing as another passenger', options, async (t) => {
  const at = await house(t)
  const { url } = at
  const context = await passenger(t)
  const page = await tab(context, url)
  await hold(page, '6A')
  await context.clearCookies()
  // Another passenger starts in another tab.
  const other = await tab(context, url)
  await button(page, 'Book', '6A').click()
  await page.getByText('We no longer know this browser').waitFor()
  await shows(other, '6A', 'taken')
  assert.deepEqual(await at.log(), ['open-flight', 'hold-seat'])
  await page.getByRole('button', { name: 'Start again' }).click()
  await shows(page, '6A', 'taken')
  assert.equal(
    await page.locator('#passenger').textContent(),
    await other.locator('#passenger').textContent(),
  )
})

test(
  crashAt('requests in flight', 'a booking that is under way is booked once after the restart'),
  options,
  async (t) => {
    const home = await mkdtemp(join(tmpdir(), 'hence-seats-'))
    const data = join(home, 'data')
    let server: ChildProcess | undefined
    let opened: { close(): Promise<void> } | undefined
    t.after(async () => {
      server?.kill('SIGKILL')
      // An engine that is closed after its directory is gone reports lost data.
      await opened?.close()
      await rm(home, { recursive: true })
    })
    const start = async (port: string): Promise<URL> => {
      const main = fileURLToPath(import.meta.resolve('../../examples/seats/main.ts'))
      const args = ['-C', 'hence-source', main, '--data', data, '--port', port]
      const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
      server = child
      for await (const line of createInterface({ input: child.stdout })) {
        const url = /http:\S+\d/.exec(line)?.[0]
        if (url) return new URL(url)
      }
      assert.fail('the server exited before it listened')
    }
    const stop = async (signal: NodeJS.Signals) => {
      const exit = once(server!, 'exit')
      server!.kill(signal)
      await exit
    }

    const url = await start('0')
    const page = await tab(await passenger(t), url.href)
    const names = ['1A', '2B', '3C']
    for (const name of names) {
      await hold(page, name)
      const sent = page.waitForRequest(/book-seat/)
      await button(page, 'Book', name).click()
      await sent
      await stop('SIGKILL')
      await start(url.port)
      await shows(page, name, 'booked')
    }
    await stop('SIGTERM')
    assert.equal(server!.exitCode, 0)
    const engine = await createEngine<typeof seats>({
      app: import.meta.resolve('../../examples/seats/seats.ts'),
      data,
    })
    opened = engine
    const booked = (await engine.scan('seats')).filter(({ value }) => value.state === 'booked')
    assert.deepEqual(
      booked.map(({ key }) => `${key[1]}${key[2]}`),
      names,
    )
    const records = engine.stats().applied.reduce((sum, count) => sum + count, 0)
    // One record of the code version, one that opened the flight, and two for each seat.
    assert.equal(records, 2 + 2 * names.length, 'a seat was held or booked more than once')
  },
)

/** With HENCE_SCREENSHOTS=folder, takes screenshots of the page, large and small, light and dark. */
async function look(page: Page, name: string): Promise<void> {
  const folder = process.env['HENCE_SCREENSHOTS']
  if (folder === undefined) return
  const before = page.viewportSize()!
  for (const [size, viewport] of [
    ['desktop', { width: 1280, height: 900 }],
    ['phone', { width: 375, height: 760 }],
  ] as const) {
    await page.setViewportSize(viewport)
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme })
      await page.screenshot({ path: join(folder, `${name}-${size}-${colorScheme}.png`) })
    }
  }
  await page.emulateMedia({ colorScheme: null })
  await page.setViewportSize(before)
}

import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, type TestContext, test } from 'node:test'
import { brotliCompressSync } from 'node:zlib'
import { createKey } from 'hence/server'
import type { BrowserContext, Page, Response } from 'playwright-core'
import { emptyOf } from '../../console/src/flat-form.ts'
import { fly } from '../../examples/airline/traffic.ts'
import { randomFrom } from '../random.ts'
import { openChromium } from './chromium.ts'
import { accessibilityFaults, buildConsole, consoleHouse, watchedTab } from './console-house.ts'

// The console in a real browser, over a server that runs the airline with its faults.

const browser = await openChromium()
const skip = typeof browser === 'string' ? browser : false
if (skip) console.error(`The console is NOT tested here. ${skip}`)
else await buildConsole()
after(async () => {
  if (typeof browser !== 'string') await browser.close()
})
const options = { skip, timeout: 280_000 }

async function profile(t: TestContext, settings: object = {}): Promise<BrowserContext> {
  assert.ok(typeof browser !== 'string')
  const context = await browser.newContext({
    viewport: { width: 1280, height: 860 },
    reducedMotion: 'reduce',
    ...settings,
  })
  context.setDefaultTimeout(30_000)
  t.after(async () => {
    // A handler of a route that is still under way must not fail after its test.
    for (const page of context.pages()) await page.unrouteAll({ behavior: 'ignoreErrors' })
    await context.close()
  })
  return context
}

const heading = (page: Page, name: string | RegExp) => page.getByRole('heading', { level: 1, name }).waitFor()

/** Bytes of JavaScript, compressed, that may be loaded before the overview is there. */
const budget = 150_000

test('the overview is there after at most 150 kB of JavaScript', options, async (t) => {
  const { url } = await consoleHouse(t, { flights: 1 })
  const { page, faults } = await watchedTab(await profile(t), url)
  const scripts: Response[] = []
  page.on('response', (response) => {
    if (response.url().endsWith('.js')) scripts.push(response)
  })
  await page.goto(url)
  await heading(page, 'Overview')
  const loaded = await Promise.all(scripts.map((response) => response.text()))
  const bytes = loaded.reduce((sum, text) => sum + brotliCompressSync(text).length, 0)
  t.diagnostic(`${loaded.length} scripts, ${bytes} bytes as brotli`)
  assert.ok(loaded.length > 0, 'no script was seen')
  assert.ok(
    bytes <= budget,
    `${bytes} bytes of JavaScript before the overview, at most ${budget} are allowed`,
  )
  assert.deepEqual(faults, [])
})

test(
  'every view keeps the policy and is accessible, in both themes and sizes, below a path',
  options,
  async (t) => {
    const { engine, url } = await consoleHouse(t, { path: '/deep/hence', flights: 4, candidate: true })
    const [resolved] = await engine.violations.list({ state: 'resolved' })
    const { requestId, principal } = resolved!.victims[0]!
    const [dead] = await engine.effects.list({ state: 'dead' })
    const views = [
      ['', 'Latest requests'],
      [`log?partition=1&from=3&record=1:5`, 'Record 1:5'],
      ['log?partition=0&where=flight%3DHE100-day', 'found in'],
      ['log?key=HE100-day', 'found in'],
      ['request', 'Request id'],
      [`request?id=${requestId}&principal=${principal}&step=1`, 'Steps in the order of log time'],
      ['tables?table=bookings&index=byOwner', 'byOwner'],
      [`tables?table=bookings&row=${encodeURIComponent('["HE100-day/01"]')}`, 'Copy as JSON'],
      ['violations', 'Decide'],
      [`violations?state=resolved&id=${resolved!.id}`, 'Gave way'],
      [`effects?state=dead&id=${dead!.id}`, 'Redrive'],
      ['send?type=book', 'fare'],
      ['audit', 'Newest head'],
      ['reprocess', 'Approve exactly'],
      ['nothing', 'There is no such view'],
    ] as const
    for (const [size, viewport, colorScheme] of [
      ['desktop', { width: 1280, height: 860 }, 'light'],
      ['phone', { width: 375, height: 760 }, 'dark'],
    ] as const) {
      const { page, faults } = await watchedTab(await profile(t, { viewport, colorScheme }), url)
      for (const [view, shows] of views) {
        await page.goto(url + view)
        await page
          .getByText(shows)
          .or(page.getByLabel(shows))
          .or(page.getByRole('heading', { name: shows }))
          .first()
          .waitFor({ state: 'attached' })
        await heading(page, /./)
        assert.deepEqual(await accessibilityFaults(page), [], `${view} on a ${size}`)
        const wide = await page.evaluate(`document.documentElement.scrollWidth - innerWidth`)
        assert.ok((wide as number) <= 0, `${view} is ${wide} pixels wider than a ${size}`)
        await look(page, `${view.split('?')[0] || 'overview'}-${size}-${colorScheme}`)
      }
      await page.goto(`${url}violations`)
      await page.getByRole('button', { name: 'CLI · curl' }).first().click()
      await page.getByText(/^hence violations list/).waitFor()
      assert.deepEqual(await accessibilityFaults(page), [], `the command pop-up on a ${size}`)
      assert.deepEqual(faults, [], size)
    }
  },
)

test('an overbooking is decided by the keyboard, and the right passenger gives way', options, async (t) => {
  const { engine, url } = await consoleHouse(t)
  const open = await engine.violations.list({ state: 'open' })
  const { id, key, constraint, excess } = open[1]!
  // The lowest fare first, and the last to book among equals.
  const expected = (await engine.violations.claims(constraint, key)).slice(0, excess)
  const { page, faults } = await watchedTab(await profile(t), url)
  await page.goto(`${url}violations`)
  await page.getByRole('heading', { level: 2, name: `seats / ${open[0]!.key}` }).waitFor()
  await page.keyboard.press('j')
  await page.getByRole('heading', { level: 2, name: `seats / ${key}` }).waitFor()
  assert.match(page.url(), new RegExp(id), 'the address does not name the violation')
  for (const victim of expected) assert.ok(await page.getByLabel(`${victim.key} gives way`).isChecked())
  // Each is seen before it is decided.
  await page.getByText(/rows? would change and .* effects? would be sent\./).waitFor()
  const keysAreOn = (key = 'c') => page.locator(`[aria-keyshortcuts="${key}"]`).waitFor()
  await keysAreOn()
  await page.getByText('Show them').click()
  await page.getByText(`rebook for ${expected[0]!.key}`).waitFor()
  assert.deepEqual(await accessibilityFaults(page), [])
  await page.keyboard.press('w')
  await page.getByText('Nobody gives way').waitFor()
  await page.getByText('0 rows would change and 0 effects would be sent.').waitFor()
  assert.equal((await engine.violations.get(key, id))!.state, 'open')
  await page.keyboard.press('Escape')
  await page.locator('main').focus()
  await page.keyboard.press('c')
  await page.keyboard.type('sold too many')
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { level: 2, name: `seats / ${open[2]!.key}` }).waitFor()
  await engine.idle()
  const decided = (await engine.violations.get(key, id))!
  assert.deepEqual(
    decided.victims.map(({ requestId, principal }) => [requestId, principal]),
    expected.map(({ requestId, principal }) => [requestId, principal]),
  )
  assert.equal(decided.history.find(({ what }) => what === 'compensate')?.reason, 'sold too many')
  for (const { requestId, principal } of expected) {
    const story = await engine.story(requestId, { principal })
    const effects = story!.steps.flatMap((step) => step.effects)
    assert.ok(
      effects.some(({ type }) => type === 'rebook'),
      `${requestId} is not rebooked`,
    )
  }
  // Another one is chosen by a person.
  const next = open[2]!
  const other = (await engine.violations.claims(next.constraint, next.key)).at(-1)!
  await keysAreOn()
  await page.keyboard.press('x')
  await page.locator('main').focus()
  const given = page.getByRole('checkbox', { checked: true })
  for (let n = await given.count(); n > 0; n--) await given.first().uncheck()
  await page.getByLabel(`${other.key} gives way`).check()
  await page.getByLabel('Reason').fill('volunteered')
  await page.getByRole('button', { name: 'Decide' }).click()
  await page.getByRole('heading', { name: 'Gave way' }).waitFor()
  const chosen = (await engine.violations.get(next.key, next.id))!
  assert.deepEqual(
    chosen.victims.map(({ requestId }) => requestId),
    [other.requestId],
  )
  assert.deepEqual(faults, [])
})

test('letters that are typed before the form is there decide nothing', options, async (t) => {
  const { engine, url } = await consoleHouse(t)
  const open = await engine.violations.list({ state: 'open' })
  const { page } = await watchedTab(await profile(t), url)
  // The form waits for this, while somebody types.
  const held = Promise.withResolvers<void>()
  await page.route('**/violations/*/*', async (route) => {
    await held.promise
    await route.continue()
  })
  await page.goto(`${url}violations`)
  await page.getByRole('heading', { level: 2, name: `seats / ${open[0]!.key}` }).waitFor()
  await page.keyboard.type('cl')
  held.resolve()
  const keys = page.locator('[aria-keyshortcuts="l"]')
  await keys.waitFor()
  await page.keyboard.type('lost too many')
  await page.keyboard.press('Enter')
  assert.ok(await page.getByRole('radio', { name: 'Compensate' }).isChecked())
  assert.equal(await page.getByLabel('Reason').inputValue(), '')
  await page.getByText('Keys are off').waitFor()
  assert.deepEqual(await accessibilityFaults(page), [])
  await page.keyboard.press('Escape')
  await page.getByText('raise limit').first().waitFor()
  await page.keyboard.press('l')
  assert.ok(await page.getByRole('radio', { name: 'Raise limit' }).isChecked())
  await page.keyboard.type('a larger plane')
  assert.equal(await page.getByLabel('Reason').inputValue(), 'a larger plane')
  assert.equal((await engine.violations.list({ state: 'open' })).length, open.length)
})

test('a request is sent from a form, and sent again it was decided before', options, async (t) => {
  const { engine, url } = await consoleHouse(t, { flights: 1, audit: false })
  const { page, faults } = await watchedTab(await profile(t), url)
  const button = (name: string) => page.getByRole('button', { name, exact: true })
  const before = async () => (await engine.log.ends()).reduce((sum, end) => sum + end, 0)
  await page.goto(`${url}send?type=open-flight`)
  await page.getByRole('textbox', { name: 'flight' }).fill('HE-new')
  await page.getByRole('textbox', { name: 'seats' }).fill('12')
  const id = new URL(page.url()).searchParams.get('id')!
  await page.getByText(id).waitFor()
  await button('Send').click()
  await page.getByText('accepted', { exact: true }).waitFor()
  await engine.idle()
  const end = await before()
  await button('Send again').click()
  await page.getByText('decided before').waitFor()
  assert.equal(await before(), end, 'sent again it is in the log twice')
  assert.deepEqual(await engine.get('flights', ['HE-new']), { seats: 12, state: 'open' })

  // Another content under this id is refused; under an id of its own the app decides.
  await page.getByRole('textbox', { name: 'seats' }).fill('13')
  await button('Send again').click()
  await page.getByText('request-id-reused').waitFor()
  await button('New id').click()
  await button('Send').click()
  await page.getByText('rejected', { exact: true }).waitFor()
  await button('JSON').click()
  await page.getByLabel('Input as JSON').fill('{"flight": ')
  assert.ok(await button('Send again').isDisabled())
  assert.deepEqual(await accessibilityFaults(page), [])
  await page.getByRole('link', { name: 'everything that followed' }).click()
  await heading(page, /open-flight/)

  await page.goto(`${url}audit`)
  await page.getByText('its audit is off').waitFor()
  assert.equal(await page.getByRole('alert').count(), 0, 'a server without an audit is no fault')
  assert.deepEqual(faults, [])
})

test('an input that no plain form can hold begins with its required members', () => {
  const line = {
    type: 'object',
    properties: { sku: { type: 'string' }, units: { type: 'integer' }, note: { type: 'string' } },
    required: ['sku', 'units'],
  }
  const kind = { enum: ['gift', 'sale'] }
  const properties = { lines: { type: 'array', items: line }, kind, paid: { type: 'boolean' }, to: {} }
  assert.deepEqual(emptyOf({ anyOf: [{ type: 'object', properties, required: Object.keys(properties) }] }), {
    ...{ lines: [{ sku: '', units: 0 }], kind: 'gift', paid: false, to: '' },
  })
})

test('a receipt is checked in the browser alone, and a changed one is not proven', options, async (t) => {
  const data = await mkdtemp(join(tmpdir(), 'hence-console-'))
  const { url } = await consoleHouse(t, { flights: 1, data })
  t.after(() => rm(data, { recursive: true }))
  const pem = await readFile(join(data, 'audit/public-key.pem'), 'utf8')
  const context = await profile(t)
  const { page, faults } = await watchedTab(context, url)
  await page.goto(`${url}audit?id=day-00001&principal=desk`)
  await page.getByText('Not proven yet').waitFor()
  await page.getByText('has the same bytes there').waitFor()
  await page.getByLabel('Public key').fill(pem)
  await page.getByText('✓ Proven').waitFor()
  assert.deepEqual(await accessibilityFaults(page), [])

  // Without the server, receipts that are dropped are still checked.
  const answer = await fetch(new URL('../requests/day-00001/receipt?principal=desk', url))
  const receipt = (await answer.json()) as { head: object }
  await context.setOffline(true)
  const drop = async (changed: object) => {
    const text = JSON.stringify({ ...receipt, ...changed })
    const transfer = await page.evaluateHandle(
      `(() => { const data = new DataTransfer(); data.items.add(new File([${JSON.stringify(text)}], 'receipt.json')); return data })()`,
    )
    await page.dispatchEvent('.receipt-zone', 'drop', { dataTransfer: transfer })
  }
  await drop({ offset: 0 })
  await page.getByText('the record is not in the tree that was signed').waitFor()
  await drop({})
  await page.getByText('✓ Proven').waitFor()
  await drop({ head: { ...receipt.head, time: 1 } })
  await page.getByText('its head was not signed with this key').waitFor()
  assert.deepEqual(faults, [])
})

test('any id, token, row or name leads to its view', options, async (t) => {
  const { engine, url } = await consoleHouse(t, { flights: 3 })
  const [dead] = await engine.effects.list({ state: 'dead' })
  const [open] = await engine.violations.list()
  const { page, faults } = await watchedTab(await profile(t), url)
  await page.goto(url)
  await page.getByText('day-00').first().waitFor()
  const alarm = page.getByRole('listitem').filter({ hasText: /effect-dead .* ago/ })
  await alarm.waitFor()
  const places: readonly (readonly [typed: string, option: RegExp, url: RegExp])[] = [
    ['day-000', /^Request/, /request\?.*principal=/],
    ['1:3', /^Record/, /log\?.*record=/],
    [dead!.id, /^Effect/, /effects\?.*state=dead/],
    [open!.id, /^Violation/, /violations\?/],
    ['bookings/HE100-day/01', /^Row/, /tables\?.*row=/],
    ['repro', /^View/, /reprocess$/],
  ]
  for (const [typed, option, address] of places) {
    await page.keyboard.press('Control+k')
    await page.getByRole('dialog').getByRole('combobox').fill(typed)
    const places = page.getByRole('option')
    await places.filter({ hasText: option }).first().waitFor()
    if (typed === 'repro') assert.deepEqual(await accessibilityFaults(page), [])
    await page.keyboard.press('Enter')
    await page.waitForURL(address)
    await page.getByRole('dialog').waitFor({ state: 'detached' })
    await heading(page, /./)
  }
  assert.deepEqual(faults, [])
})

test('the history of a row leads to the requests that made it', options, async (t) => {
  const { engine, url } = await consoleHouse(t, { flights: 3 })
  const [resolved] = await engine.violations.list({ state: 'resolved' })
  const { requestId, principal } = resolved!.victims[0]!
  const story = await engine.story(requestId, { principal })
  const changed = story!.steps.flatMap(({ changes }) => changes).filter(({ table }) => table === 'bookings')
  const [row] = changed
  const { page, faults } = await watchedTab(await profile(t), url)
  await page.goto(`${url}tables?table=bookings&row=${encodeURIComponent(JSON.stringify(row!.key))}`)
  const entries = page.getByLabel(/^Change at/)
  await entries.first().waitFor()
  const { changes } = await engine.history('bookings', row!.key)
  assert.equal(await entries.count(), changes.length)
  assert.ok(changes.length >= 2, 'it was booked, and gave way')
  await page.getByText(/^\d+ changes? since the log began\.$/).waitFor()
  await page.setViewportSize({ width: 375, height: 760 })
  assert.deepEqual(await accessibilityFaults(page), [])
  const wide = await page.evaluate(`document.documentElement.scrollWidth - innerWidth`)
  assert.ok((wide as number) <= 0, `it is ${wide} pixels wider than a phone`)
  await look(page, 'history-phone-light')
  const oldest = entries.last().getByRole('link').first()
  await oldest.click()
  await page.waitForURL(/request\?.*id=/)
  assert.equal(new URL(page.url()).searchParams.get('id'), changes.at(-1)!.requestId)
  assert.equal(changes.at(-1)!.requestId, requestId)
  assert.deepEqual(faults, [])
})

test('a table is shown as it was, by a slider and by the history of a row', options, async (t) => {
  const { engine, url } = await consoleHouse(t, { flights: 3 })
  const rows = await engine.scan('bookings')
  const { pastSince = 0 } = engine.stats()
  const { page, faults } = await watchedTab(await profile(t), url)
  const count = (n: number) => page.getByText(`${n} ${n === 1 ? 'row' : 'rows'}`, { exact: true }).waitFor()
  await page.goto(`${url}tables?table=bookings`)
  await count(rows.length)
  await page.getByRole('button', { name: 'As it was' }).click()
  const slider = page.getByRole('slider', { name: 'As it was' })
  await slider.focus()
  await page.keyboard.press('Home')
  await page.waitForURL(new RegExp(`at=${pastSince}$`))
  await count((await engine.scan('bookings', {}, { at: pastSince })).length)
  assert.ok(await page.getByRole('button', { name: 'Watch' }).isDisabled(), 'nothing new comes in the past')
  assert.deepEqual(await accessibilityFaults(page), [])
  await page.keyboard.press('End')
  await count(rows.length)
  // The last record of each partition at that time.
  const output = page.locator('.past output')
  const { applied } = engine.stats()
  for (const [partition, end] of applied.entries())
    await output.getByRole('link', { name: `${partition}:${end - 1}`, exact: true }).waitFor()

  // Exactly as it was at a change, and the address says so.
  const [resolved] = await engine.violations.list({ state: 'resolved' })
  const key = [resolved!.victims[0]!.key] as const
  const { changes } = await engine.history('bookings', key)
  const first = changes.at(-1)!
  await page.goto(`${url}tables?table=bookings&row=${encodeURIComponent(JSON.stringify(key))}`)
  await page.getByLabel(`Change at ${first.token}`).getByRole('link', { name: 'as of then' }).click()
  await page.waitForURL(new RegExp(`at=${first.token.replace(':', '(:|%3A)')}`))
  const shown = page.getByLabel('Row', { exact: true })
  await shown.filter({ hasText: String((first.after as { state: string }).state) }).waitFor()
  await page.setViewportSize({ width: 375, height: 760 })
  assert.deepEqual(await accessibilityFaults(page), [])
  const wide = await page.evaluate(`document.documentElement.scrollWidth - innerWidth`)
  assert.ok((wide as number) <= 0, `it is ${wide} pixels wider than a phone`)
  await look(page, 'past-phone-light')
  await page.getByRole('button', { name: 'Now' }).click()
  await shown.filter({ hasText: String((changes[0]!.after as { state: string }).state) }).waitFor()
  assert.deepEqual(faults, [])
})

test('exactly the diff that was looked at is promoted, rolled back, and discarded', options, async (t) => {
  const { engine, url } = await consoleHouse(t, { flights: 3, candidate: true })
  const { page, faults } = await watchedTab(await profile(t), url)
  await page.goto(`${url}reprocess`)
  const button = (name: string | RegExp) => page.getByRole('button', { name })
  await button('Approve exactly').waitFor()
  const { sha256: looked } = await engine.reprocessing.diff()
  await page.keyboard.press('j')
  await page.getByText('2 of').waitFor()
  assert.match(page.url(), /group=/, 'the address does not name the group')

  // Meanwhile a flight sells more than its margin, and somebody else compares.
  const by = (requestId: string) => ({ requestId, principal: 'desk' })
  await engine.submit('open-flight', { flight: 'HE-late', seats: 10 }, by('late'))
  for (let i = 0; i < 13; i++) {
    await engine.submit('book', { booking: `late/${i}`, flight: 'HE-late', fare: 'saver' }, by(`late-${i}`))
  }
  await engine.idle()
  const { sha256: other } = await engine.reprocessing.diff()
  assert.notEqual(other, looked)
  await page.getByText('Another diff was made since').waitFor()
  await button(`Approve exactly ${looked.slice(0, 8)}`).click()
  await page.getByText('diff-unknown').waitFor()
  await page.getByText('Nothing was promoted').waitFor()
  assert.equal(engine.stats().generation, 0)
  assert.deepEqual(await accessibilityFaults(page), [])

  await button('Compare again').click()
  await button(`Approve exactly ${other.slice(0, 8)}`).waitFor()
  await page.getByLabel('Note').fill('a wider margin')
  await page.keyboard.press('Enter')
  await page.getByText('Generation 1 is live').waitFor()
  const promoted = (await engine.reprocessing.history()).at(-1)!
  assert.ok(promoted.type === 'promotion')
  assert.deepEqual([promoted.diff, promoted.note], [other, 'a wider margin'])

  await button('Roll back exactly').click()
  await page.getByText('Generation 0 is live').waitFor()
  assert.equal(engine.stats().generation, 0)
  await button('Pause').click()
  await button('Resume').click()
  await button('Pause').waitFor()
  await button('Discard…').click()
  await button('Discard generation 1').click()
  await page.getByText('hence reprocess run airline.ts').waitFor()
  assert.equal(await engine.reprocessing.status(), undefined)
  // The code is kept, so it can be derived again.
  await page.getByLabel('Version whose code is kept').fill(promoted.version)
  await button('Start').click()
  await button('Approve exactly').waitFor()
  assert.deepEqual(faults, [])
})

test('a story is shared as a file without its payloads, and opened elsewhere', options, async (t) => {
  const { engine, url } = await consoleHouse(t, { flights: 3 })
  const [resolved] = await engine.violations.list({ state: 'resolved' })
  const { requestId, principal } = resolved!.victims[0]!
  const { page, faults } = await watchedTab(await profile(t), url)
  await page.goto(`${url}request?id=${requestId}&principal=${principal}`)
  await page.getByText('caused by').waitFor()
  const steps = await page.locator('.lane').count()
  assert.ok(steps >= 5, `${steps} rows`)
  const downloading = page.waitForEvent('download')
  await page.getByRole('button', { name: 'Share' }).click()
  const text = await readFile(await (await downloading).path(), 'utf8')
  assert.ok(!text.includes('saver'), 'a payload is in the file')
  assert.ok(text.includes(requestId))

  const elsewhere = await watchedTab(await profile(t), url)
  await elsewhere.page.goto(`${url}request`)
  const transfer = await elsewhere.page.evaluateHandle(
    `(() => { const data = new DataTransfer(); data.items.add(new File([${JSON.stringify(text)}], 'story.json')); return data })()`,
  )
  await elsewhere.page.dispatchEvent('.drop-zone', 'drop', { dataTransfer: transfer })
  await elsewhere.page.getByText('this server has not confirmed it').waitFor()
  assert.equal(await elsewhere.page.locator('.lane').count(), steps)
  assert.deepEqual([faults, elsewhere.faults], [[], []])
})

test('the log follows its end, and a million records scroll by offset', options, async (t) => {
  const { engine, url } = await consoleHouse(t, { flights: 2 })
  const { page, faults } = await watchedTab(await profile(t), url)
  await page.goto(`${url}log?partition=0`)
  const end = await page.locator('.rows .token').last().textContent()
  for (let i = 0; i < 8; i++) {
    const input = { flight: `new-${i}`, seats: 1 }
    await engine.submit('open-flight', input, { requestId: `new-${i}`, principal: 'desk' })
  }
  await page.waitForFunction((end) => {
    const { document } = globalThis as never as Shown
    return [...document.querySelectorAll('.rows .token')].at(-1)?.textContent !== end
  }, end)

  // A field finds records, and a time leads to its offset.
  await page.getByLabel('Field').fill('flight=new-3')
  await page.keyboard.press('Enter')
  await page.getByText(/^[01] found in \d+ of \d+ records/).waitFor()
  await page.goto(`${url}log?partition=0`)
  await page.getByLabel('From time').fill('2020-01-01T00:00:00')
  await page.waitForURL(/from=0/)

  const size = 1_234_567
  const asked: number[] = []
  await page.route(/:\d+\/log\?/, (route) => {
    const { searchParams } = new URL(route.request().url())
    const from = Math.min(size, Number(searchParams.get('from')))
    const next = Math.min(size, from + Number(searchParams.get('limit') ?? 100))
    asked.push(from)
    const records = Array.from({ length: next - from }, (_, i) => {
      return { token: `0:${from + i}`, at: 1_800_000_000_000 + from + i, kind: 'tick' }
    })
    return route.fulfill({ json: { partition: 0, from, next, end: size, records } })
  })
  await page.goto(`${url}log?partition=0&from=617283`)
  const row = (offset: number) => page.getByText(`0:${offset}`, { exact: true })
  await row(617_283).waitFor()
  await page.getByRole('button', { name: 'Follow the end' }).click()
  await row(size - 1).waitFor()
  // Scrolling up for long passes the beginning of the window, which slides.
  const rows = page.locator('.rows')
  const first = async () => Number((await page.locator('.rows .token').first().textContent())?.split(':')[1])
  let top = await first()
  for (let i = 0; i < 20 && top > 900_000; i++) {
    await rows.evaluate(async (element) => {
      const { requestAnimationFrame } = globalThis as never as Shown
      ;(element as never as { scrollTop: number }).scrollTop -= 40_000 * 30
      for (let frame = 0; frame < 3; frame++) await new Promise<void>(requestAnimationFrame)
    })
    top = await first()
  }
  assert.ok(top > 700_000 && top < 1_000_000, `the first row in sight is ${top}`)
  const height = await rows.evaluate((element) => (element as never as { scrollHeight: number }).scrollHeight)
  assert.ok(height < 33_000_000, `${height} pixels are more than browsers can show`)
  await page.getByLabel('Offset', { exact: true }).last().fill('42')
  await page.keyboard.press('Enter')
  await row(42).waitFor()
  await page.keyboard.press('Tab')
  assert.ok(asked.length < 400, `${asked.length} pages were asked for`)
  assert.deepEqual(faults, [])
})

test(
  'six tabs of a browser share one stream, and the next tab reads it when one closes',
  options,
  async (t) => {
    const { engine, url } = await consoleHouse(t, { flights: 2 })
    const context = await profile(t)
    const streams = async () => {
      const text = await (await fetch(new URL('../metrics', url))).text()
      return Number(/^hence_change_streams (\d+)$/m.exec(text)?.[1])
    }
    const open = async (flight: string) => {
      const input = { flight, seats: 3 }
      await engine.submit('open-flight', input, { requestId: flight, principal: 'desk' })
    }
    const row = (page: Page, flight: string) => page.getByRole('link', { name: flight })
    const tabs = await Promise.all(Array.from({ length: 6 }, () => watchedTab(context, url)))
    for (const [i, { page }] of tabs.entries()) {
      await page.goto(`${url}tables?table=${i === 5 ? 'bookings' : 'flights'}`)
      await page.getByRole('button', { name: 'Watch' }).click()
      await page.getByRole('button', { name: 'Watching' }).waitFor()
    }
    // A seventh has a connection left: HTTP/1.1 has six to a server.
    const seventh = await watchedTab(context, url)
    await seventh.page.goto(`${url}log?partition=0`)
    await heading(seventh.page, 'Log')
    await open('AA-1')
    for (const { page } of tabs.slice(0, 5)) await row(page, 'AA-1').waitFor()
    assert.equal(await streams(), 1)

    // Other tables are watched by other tabs, and the tab that reads is closed.
    const passenger = { booking: 'AA-1/01', flight: 'AA-1', fare: 'saver' } as const
    await engine.submit('book', passenger, { requestId: 'aa', principal: 'zoe' })
    await row(tabs[5]!.page, '["AA-1/01"]').or(row(tabs[5]!.page, 'AA-1/01')).first().waitFor()
    await tabs[0]!.page.close()
    await open('AA-2')
    for (const { page } of tabs.slice(1, 5)) await row(page, 'AA-2').waitFor()
    await tabs[1]!.page.getByRole('button', { name: 'Watching' }).click()
    await open('AA-3')
    for (const { page } of tabs.slice(2, 5)) await row(page, 'AA-3').waitFor()
    assert.equal(await streams(), 1)
    assert.deepEqual(
      [...tabs, seventh].flatMap(({ faults }) => faults),
      [],
    )
  },
)

test('effects that die appear without being asked for', options, async (t) => {
  const { engine, url } = await consoleHouse(t, { flights: 2 })
  const { page, faults } = await watchedTab(await profile(t), url)
  await page.goto(`${url}effects?state=dead`)
  await page.locator('.data, .empty').first().waitFor()
  await fly(engine, { random: randomFrom(9), name: 'more', flights: 6 })
  await page.getByRole('link', { name: 'more-' }).first().waitFor()
  assert.deepEqual(faults, [])
})

test('a server that was gone is read again, and what was shown stays', options, async (t) => {
  const { engine, url } = await consoleHouse(t, { flights: 4 })
  const [dead] = await engine.effects.list({ state: 'dead' })
  const { requestId, principal } = dead!
  const { page } = await watchedTab(await profile(t), url)
  await page.goto(`${url}request?id=${requestId}`)
  await page.getByText('request-not-found').waitFor()
  await page.getByLabel('Sent by').fill(principal)
  await page.keyboard.press('Enter')
  const picture = page.getByLabel('Steps in the order of log time')
  await picture.waitFor()
  const isAsked = ({ pathname }: { pathname: string }) => !pathname.includes('/console/')
  await page.route(isAsked, (route) => route.abort())
  const gone = page.getByText('not-reachable', { exact: true })
  await gone.waitFor()
  assert.ok(await picture.isVisible(), 'the picture is gone too')
  await page.getByRole('link', { name: 'Tables', exact: true }).click()
  await heading(page, 'Tables')
  await gone.waitFor()
  await page.unroute(isAsked)
  await page.locator('.data .id').first().waitFor()
  await page.goBack()
  await picture.waitFor()
  await gone.waitFor({ state: 'detached' })
})

test('a server with keys is opened with a key, which stays in the tab', options, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'hence-console-'))
  t.after(() => rm(folder, { recursive: true }))
  const keys = join(folder, 'keys.json')
  const wanted = { name: 'console', principal: 'mo', permissions: ['read', 'operate'] }
  const { secret } = await createKey(keys, wanted)
  const weak = await createKey(keys, { name: 'weak', principal: 'eve', permissions: ['submit'] })
  const { engine, url } = await consoleHouse(t, { open: false, keys })
  const context = await profile(t)
  const { page, faults } = await watchedTab(context, url)
  await page.goto(`${url}violations`)
  await page.getByRole('heading', { name: 'This server asks for a key' }).waitFor()
  assert.deepEqual(await accessibilityFaults(page), [])
  await page.getByLabel('API key').fill(`hence_${'x'.repeat(43)}`)
  await page.keyboard.press('Enter')
  await page.getByRole('alert').waitFor()
  await page.getByLabel('API key').fill(secret)
  await page.keyboard.press('Enter')
  await heading(page, 'Violations')
  await page.getByText('mo', { exact: true }).waitFor()

  // Streams carry the key as well.
  await page.goto(`${url}tables?table=flights`)
  await page.getByRole('button', { name: 'Watch' }).click()
  await page.getByRole('button', { name: 'Watching' }).waitFor()
  await engine.submit('open-flight', { flight: 'AA-new', seats: 3 }, { requestId: 'w', principal: 'desk' })
  await page.getByRole('link', { name: 'AA-new' }).waitFor()

  await page.goto(`${url}effects?state=dead&type=pay`)
  await page.locator('.data .id').first().click()
  await page.getByText('0 rows would change and 1 effect would be sent.').waitFor()
  await page.getByLabel('Reason').fill('the bank is back')
  await page.getByRole('button', { name: 'Redrive' }).click()
  await page.getByText('Sent again').waitFor()

  // All of a type at once; the bank still refuses, so they are dead again.
  const dead = await engine.effects.list({ state: 'dead', type: 'pay' })
  await page.goto(`${url}effects?state=dead&type=pay`)
  await page.getByText('Redrive all dead effects “pay”').click()
  await page.getByLabel('Why all of them').fill('the bank is back again')
  await page.getByLabel('At most a second').fill('50')
  assert.deepEqual(await accessibilityFaults(page), [])
  await page.getByRole('button', { name: 'Redrive all' }).click()
  await page.getByText(/^(\d+) of \1 effects? redriven\.$/).waitFor()
  for (const { id, redrives = 0 } of dead)
    assert.equal((await engine.effects.get(id))!.redrives, redrives + 1, 'it was redriven once')
  assert.equal(await page.evaluate('localStorage.getItem("hence.key")'), null)
  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.getByRole('heading', { name: 'This server asks for a key' }).waitFor()

  // Another key sees what it may see, and why not the rest.
  await page.getByLabel('API key').fill(weak.secret)
  await page.keyboard.press('Enter')
  await heading(page, 'Effects')
  await page.getByText('not-allowed').first().waitFor()
  await page.getByRole('link', { name: 'Overview' }).click()
  await page.getByText('take the permission operate').waitFor()
  assert.deepEqual(faults, [])
})

type Shown = {
  requestAnimationFrame(callback: () => void): void

  document: {
    querySelectorAll(selector: string): ArrayLike<{ textContent: string }> & Iterable<{ textContent: string }>
  }
}

/** With HENCE_SCREENSHOTS=folder, takes screenshots of the views. */
async function look(page: Page, name: string): Promise<void> {
  const folder = process.env['HENCE_SCREENSHOTS']
  if (folder !== undefined) await page.screenshot({ path: join(folder, `console-${name}.png`) })
}

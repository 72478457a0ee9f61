import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { after, before, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { buildSite } from '../../site/build.ts'
import { type SearchIndex, search } from '../../site/search.ts'
import { openChromium } from './chromium.ts'

// The static site of the docs: its pages, its links, its search, and that it asks nobody else.

const root = resolve(import.meta.dirname, '../..')
let folder: string
let site: string
let html: ReadonlyMap<string, string>

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hence-site-'))
  site = (await buildSite({ root, out: folder })).folder
  const names = (await readdir(site, { recursive: true })).filter((name) => name.endsWith('.html'))
  html = new Map(
    await Promise.all(names.map(async (name) => [name, await readFile(join(site, name), 'utf8')] as const)),
  )
})
after(() => rm(folder, { recursive: true, force: true }))

test('every page of docs, the README and the changes are pages, below the version', async () => {
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
  assert.equal(relative(folder, site), version)
  assert.match(await readFile(join(folder, 'index.html'), 'utf8'), new RegExp(`url=${version}/index.html`))
  const docs = (await readdir(join(root, 'docs'), { recursive: true })).filter((name) => name.endsWith('.md'))
  assert.ok(docs.length > 40)
  for (const name of ['index.md', 'CHANGELOG.md', ...docs]) {
    const page = html.get(name.replace(/\.md$/, '.html'))
    assert.ok(page, `${name} is no page`)
    assert.match(page, /<h1 /)
    // Each page is in the navigation of each.
    assert.equal(page.split('aria-current="page"').length, 2, name)
  }
})

test('every link, anchor, picture, script and style sheet is there', async () => {
  const files = new Set(await readdir(site, { recursive: true }))
  let links = 0
  for (const [name, text] of html) {
    for (const [, href] of text.matchAll(/(?:href|src|srcset)="([^"]*)"/g)) {
      if (/^https?:/.test(href!)) continue
      links++
      const [path = '', anchor] = href!.split('#')
      const target = path === '' ? name : join(dirname(name), path)
      if (target === '../index.html') continue
      assert.ok(files.has(target), `${name} links ${href}`)
      if (anchor) assert.ok(html.get(target)!.includes(` id="${anchor}"`), `${name} links ${href}`)
    }
  }
  assert.ok(links > 5_000, `${links} links`)
})

test('no page has inline code or style, or loads anything from elsewhere', () => {
  for (const [name, text] of html) {
    assert.match(text, /<meta http-equiv="Content-Security-Policy" content="default-src 'none'; /, name)
    assert.doesNotMatch(text, /<(?:script|link|img|source|iframe)[^>]*(?:src|srcset|href)="(?:https?:)?\/\//)
    assert.doesNotMatch(text, /<style|<[^>]* style="|<script(?! src=)|<[^>]* on\w+="/, name)
  }
})

test('the search finds a section by its words', async () => {
  const script = await readFile(join(site, 'search-index.js'), 'utf8')
  const index: SearchIndex = JSON.parse(script.replace('globalThis.henceIndex = ', ''))
  const first = (query: string) => search(index, query)[0]?.path
  assert.equal(first('partition key'), 'explanation/concepts.html#choose-a-partition-key')
  assert.equal(first('DERIVATION-THREW'), 'reference/errors.html#derivation-threw')
  assert.equal(first('first five minutes'), 'first-five-minutes.html#the-first-five-minutes')
  assert.ok(search(index, 'systemd').some(({ path }) => path.startsWith('how-to/deploy.html')))
  assert.doesNotMatch(first('kill')!, /skill/i)
  assert.deepEqual(search(index, 'xylophone'), [])
  assert.deepEqual(search(index, ' '), [])
  for (const { excerpt } of search(index, 'waive violation')) assert.match(excerpt[1], /waive|violation/i)
})

/** Builds a site of two pages. */
async function buildOf(readme: string, guide: string): Promise<Map<string, string>> {
  const small = await mkdtemp(join(folder, 'small-'))
  await mkdir(join(small, 'docs/how-to'), { recursive: true })
  await writeFile(join(small, 'package.json'), '{ "version": "1.0.0" }')
  await writeFile(join(small, 'README.md'), readme)
  await writeFile(join(small, 'CHANGELOG.md'), '# Changes\n')
  await writeFile(join(small, 'docs/how-to/guide.md'), guide)
  const built = await buildSite({ root: small, out: join(small, 'out') })
  return new Map(
    await Promise.all(
      built.pages.map(async (name) => [name, await readFile(join(built.folder, name), 'utf8')] as const),
    ),
  )
}

test('a link to a missing page, anchor or picture fails the build, and all are named', async () => {
  const readme = '# A\n\n[1](docs/how-to/guide.md) [2](docs/gone.md) [3](#nowhere) ![4](docs/gone.png)\n'
  await assert.rejects(buildOf(readme, '# B\n\n[5](../../README.md#gone) [6](../../README.md#a)\n'), {
    message:
      'Links that lead nowhere:\n' +
      'README.md: docs/gone.md\nREADME.md: #nowhere\nREADME.md: docs/gone.png\n' +
      'docs/how-to/guide.md: ../../README.md#gone',
  })
  await assert.rejects(buildOf('# A\n\nA Map<string> here\n', '# B\n'), /tag <string> is not allowed/)
})

test('headings have the anchors of the forge, and text of a page stays text', async () => {
  const guide =
    '# B\n\n## `get(key, …)` & more\n\n## Twice\n\n## Twice\n\n' +
    '[up](../../README.md#a) [again](#twice-1)\n\n```ts file.ts\nif (a < b) "c"\n```\n'
  const page = (await buildOf('# A\n', guide)).get('how-to/guide.html')!
  assert.match(page, /<h2 id="getkey---more">/)
  assert.match(page, /<h2 id="twice-1">/)
  assert.match(page, /<a href="\.\.\/index\.html#a">up<\/a> <a href="#twice-1">again<\/a>/)
  assert.match(
    page,
    /<figcaption>file\.ts<\/figcaption><pre [^>]*><code class="ts">if \(a &lt; b\) &quot;c&quot;/,
  )
})

test('in a browser, from a disk: search with the keyboard, and follow a result', async (t) => {
  const browser = await openChromium()
  if (typeof browser === 'string') return t.skip(browser)
  try {
    const page = await browser.newPage({ viewport: { width: 390, height: 844 } })
    const faults: string[] = []
    page.on('console', (message) => faults.push(message.text()))
    page.on('pageerror', (error) => faults.push(String(error)))
    page.on('request', (request) => {
      if (!request.url().startsWith('file:')) faults.push(request.url())
    })
    await page.goto(pathToFileURL(join(folder, 'index.html')).href)
    await page.locator('search').waitFor()
    await page.keyboard.press('/')
    await page.keyboard.type('choose a partition key')
    await page.locator('#hits a').first().waitFor()
    await page.keyboard.press('Enter')
    await page.waitForURL('**/explanation/concepts.html#choose-a-partition-key')
    // Narrow screens have the pages in a panel.
    await page.locator('#nav').waitFor({ state: 'hidden' })
    await page.getByRole('button', { name: 'Pages' }).click()
    await page.locator('#nav').getByRole('link', { name: 'The first five minutes' }).click()
    await page.waitForURL('**/first-five-minutes.html')
    assert.deepEqual(faults, [])
  } finally {
    await browser.close()
  }
})

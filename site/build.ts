import { cp, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join, posix } from 'node:path'
import { build } from 'esbuild'
import { layout, type NavGroup, versionsPage } from './layout.ts'
import { fence, Markdown } from './markdown.ts'
import type { SearchIndex } from './search.ts'

// Makes the static site, dist/docs/VERSION/, from the Markdown of the repository.

const here = import.meta.dirname

/** Bytes of the search index, which a reader loads at the first search. */
const indexLimit = 1_000_000

export interface SiteOptions {
  /** Folder with README.md, CHANGELOG.md, package.json and docs/. */
  readonly root: string
  /** Folder that gets index.html and a folder named by the version. Other versions there stay. */
  readonly out: string
}

/**
 * Builds the site.
 * @returns its folder, and the addresses of its pages below that
 * @throws Error that lists every broken link
 */
export async function buildSite({ root, out }: SiteOptions): Promise<{ folder: string; pages: string[] }> {
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string }
  const site = await Site.read(root)
  const folder = join(out, version)
  await rm(folder, { recursive: true, force: true })
  const write = async (path: string, text: string) => {
    await mkdir(dirname(join(folder, path)), { recursive: true })
    await writeFile(join(folder, path), text)
  }
  const files = site.files(version)
  const index = JSON.stringify(site.searchIndex())
  if (index.length > indexLimit) throw new Error(`the search index has ${index.length} bytes`)
  for (const [path, html] of files) await write(path, html)
  for (const path of site.pictures) {
    await mkdir(dirname(join(folder, addressOf(path))), { recursive: true })
    await cp(join(root, path), join(folder, addressOf(path)))
  }
  // A script, since a page that is opened from a disk may not fetch.
  await write('search-index.js', `globalThis.henceIndex = ${index}\n`)
  await build({
    entryPoints: [join(here, 'page/site.ts')],
    outfile: join(folder, 'site.js'),
    bundle: true,
    minify: true,
    target: 'es2022',
    logLevel: 'warning',
  })
  await cp(join(here, 'page/style.css'), join(folder, 'style.css'))
  await cp(join(here, '../console/src/icon.svg'), join(folder, 'icon.svg'))
  const versions = (await readdir(out, { withFileTypes: true }))
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort((a, b) => b.localeCompare(a, 'en', { numeric: true }))
  await writeFile(join(out, 'index.html'), versionsPage(versions[0]!, versions))
  return { folder, pages: [...files.keys()] }
}

class Site {
  readonly #root: string
  /** By path in the repository. */
  readonly #pages = new Map<string, Markdown>()
  /** Files and folders that pages link to, with the text of each file. */
  readonly #sources = new Map<string, Map<string, string>>()
  readonly pictures = new Set<string>()

  private constructor(root: string) {
    this.#root = root
  }

  /** Reads README.md, CHANGELOG.md, docs/, and all that they link to. */
  static async read(root: string): Promise<Site> {
    const site = new Site(root)
    const docs = await readdir(join(root, 'docs'), { recursive: true })
    const pages = docs.filter((name) => name.endsWith('.md')).map((name) => posix.join('docs', name))
    const waiting = ['README.md', 'CHANGELOG.md', ...pages.sort()]
    const seen = new Set(waiting)
    for (let path = waiting.shift(); path !== undefined; path = waiting.shift()) {
      for (const next of await site.#add(path)) {
        if (seen.has(next)) continue
        seen.add(next)
        waiting.push(next)
      }
    }
    return site
  }

  /** @returns the paths that it links to. A missing one stays out, and is a broken link later. */
  async #add(path: string): Promise<string[]> {
    const full = join(this.#root, path)
    const found = await stat(full).catch(() => undefined)
    if (!found) return []
    if (/\.(?:webp|png|svg)$/.test(path)) {
      this.pictures.add(path)
      return []
    }
    if (!path.endsWith('.md')) {
      const names = found.isDirectory() ? await readdir(full, { recursive: true, withFileTypes: true }) : []
      const inside = names.filter((each) => each.isFile()).map((each) => join(each.parentPath, each.name))
      const texts = new Map<string, string>()
      for (const file of found.isDirectory() ? inside.sort() : [full])
        texts.set(posix.relative(this.#root, file), await readFile(file, 'utf8'))
      this.#sources.set(path, texts)
      return []
    }
    const page = new Markdown(await readFile(full, 'utf8'))
    this.#pages.set(path, page)
    const targets = page.links().filter((href) => !isOutside(href) && !href.startsWith('#'))
    return targets.map((href) => targetOf(path, href)[0])
  }

  /** The HTML of every page by its address. */
  files(version: string): Map<string, string> {
    const nav = this.#nav()
    const broken: string[] = []
    const files = new Map<string, string>()
    for (const [path, page] of this.#pages) {
      const address = addressOf(path)
      const body = page.html((href) => {
        const rewritten = this.#rewrite(path, page, href)
        if (rewritten === undefined) broken.push(`${path}: ${href}`)
        return rewritten ?? href
      })
      files.set(
        address,
        layout({ path: address, title: page.title, body, headings: page.headings, nav, version }),
      )
    }
    for (const [path, texts] of this.#sources) {
      const parts = [...texts].map(([name, text]) => fence(text, `${languageOf(name)} ${name}`))
      const body = `<h1>${path}</h1>\n${parts.join('')}`
      files.set(
        addressOf(path),
        layout({ path: addressOf(path), title: path, body, headings: [], nav, version }),
      )
    }
    if (broken.length > 0) throw new Error(`Links that lead nowhere:\n${broken.join('\n')}`)
    return files
  }

  /** @returns nothing for a link that leads nowhere */
  #rewrite(path: string, page: Markdown, href: string): string | undefined {
    if (isOutside(href)) return href
    if (href.startsWith('#')) return page.has(href.slice(1)) ? href : undefined
    const [target, anchor] = targetOf(path, href)
    const known = this.#pages.has(target) || this.#sources.has(target) || this.pictures.has(target)
    if (!known || (anchor && !this.#pages.get(target)?.has(anchor))) return undefined
    const address = posix.relative(posix.dirname(addressOf(path)), addressOf(target))
    return anchor ? `${address}#${anchor}` : address
  }

  /** Pages by kind, in the order in which the README lists them. */
  #nav(): NavGroup[] {
    const readme = this.#pages.get('README.md')
    const listed = (readme?.links() ?? []).map((href) => targetOf('README.md', href)[0])
    // The last mention counts: the list is at the end, and the text before it mentions some.
    const order = (path: string) => {
      if (path === 'README.md') return -1
      return listed.includes(path) ? listed.lastIndexOf(path) : listed.length
    }
    const groups = ['Start', 'How to', 'Reference', 'Background', 'Examples', 'Project'].map((name) => ({
      name,
      pages: [...this.#pages]
        .filter(([path]) => groupOf(path) === name)
        .sort(([a], [b]) => order(a) - order(b))
        .map(([path, page]) => ({ path: addressOf(path), title: navTitle(page.title) })),
    }))
    return groups.filter(({ pages }) => pages.length > 0)
  }

  searchIndex(): SearchIndex {
    const pages = [...this.#pages]
    return {
      pages: pages.map(([path, page]) => [addressOf(path), page.title] as const),
      sections: pages.flatMap(([, page], at) =>
        page.sections().map(({ id, heading, text }) => [at, id, heading, text] as const),
      ),
    }
  }
}

function isOutside(href: string): boolean {
  return /^(?:https?|mailto):/.test(href)
}

/** The path in the repository that a link of a page means, and the anchor. */
function targetOf(path: string, href: string): [path: string, anchor: string | undefined] {
  const [file = '', anchor] = href.split('#')
  return [posix.join(posix.dirname(path), decodeURI(file)).replace(/\/$/, ''), anchor]
}

/** Where a file of the repository is on the site. */
function addressOf(path: string): string {
  if (path === 'README.md') return 'index.html'
  const below = path.replace(/^docs\//, '')
  if (/\.(?:webp|png|svg)$/.test(path)) return below
  return below.endsWith('.md') ? below.replace(/\.md$/, '.html') : `${below}.html`
}

function groupOf(path: string): string {
  if (path.startsWith('docs/how-to/') || path === 'kit/README.md') return 'How to'
  if (path.startsWith('docs/reference/')) return 'Reference'
  if (path.startsWith('docs/explanation/') || path === 'docs/ARCHITECTURE.md' || path === 'bench/README.md')
    return 'Background'
  if (path.startsWith('examples/')) return 'Examples'
  return path === 'README.md' || path.startsWith('docs/') ? 'Start' : 'Project'
}

/** The group says already that it is a how-to. */
function navTitle(title: string): string {
  const short = title.replace(/^(?:How to|Reference:) /, '')
  // A name of code keeps its case.
  return short.includes('/') ? short : short.charAt(0).toUpperCase() + short.slice(1)
}

function languageOf(name: string): string {
  return /\.(\w+)$/.exec(name)?.[1] ?? 'plain'
}

if (import.meta.main) {
  const root = join(here, '..')
  const { folder, pages } = await buildSite({ root, out: join(root, 'dist/docs') })
  console.log(`${pages.length} pages in ${folder}`)
}

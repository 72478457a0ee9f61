import { posix } from 'node:path'
import { escapeHtml, type Heading } from './markdown.ts'

// The HTML around a page.

/** Nothing from elsewhere, no inline code or style. */
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
].join('; ')

export interface NavGroup {
  readonly name: string
  readonly pages: readonly { readonly path: string; readonly title: string }[]
}

export interface Layout {
  /** Address below the version, for example `how-to/deploy.html`. */
  readonly path: string
  readonly title: string
  readonly body: string
  readonly headings: readonly Heading[]
  readonly nav: readonly NavGroup[]
  readonly version: string
}

export function layout({ path, title, body, headings, nav, version }: Layout): string {
  const to = (target: string) => escapeHtml(posix.relative(posix.dirname(path), target))
  const name = title === 'Hence' ? 'Hence' : `${title} · Hence`
  const toc = headings.filter(({ depth }) => depth === 2 || depth === 3)
  const all = nav.flatMap(({ pages }) => pages)
  const at = all.findIndex((page) => page.path === path)
  const beside = (page: (typeof all)[number] | undefined, rel: string, label: string) =>
    page
      ? `<a rel="${rel}" href="${to(page.path)}"><small>${label}</small> ${escapeHtml(page.title)}</a>`
      : ''
  const base = to('.') || '.'
  return `<!doctype html>
<html lang="en" data-base="${base}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>${escapeHtml(name)}</title>
<link rel="icon" type="image/svg+xml" href="${to('icon.svg')}">
<link rel="stylesheet" href="${to('style.css')}">
<script src="${to('site.js')}" defer></script>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header>
<button class="menu" popovertarget="nav" aria-label="Pages">☰</button>
<a class="home" href="${to('index.html')}">Hence</a> <a class="version" href="${to('../index.html')}">${version}</a>
<search hidden><input type="search" placeholder="Search" aria-label="Search the docs" aria-controls="hits"
 autocomplete="off" spellcheck="false"><div id="hits" role="region" aria-label="Results" hidden></div></search>
${toc.length > 1 ? '<button class="contents" popovertarget="toc">On this page</button>' : ''}
</header>
<div class="columns">
<nav id="nav" popover aria-label="Pages">
${nav.map((group) => navGroup(group, path, to)).join('\n')}
</nav>
<main id="content">
${body}
<footer>${beside(all[at - 1], 'prev', 'Before')}${at < 0 ? '' : beside(all[at + 1], 'next', 'Next')}</footer>
</main>
${toc.length > 1 ? contents(toc) : ''}
</div>
</body>
</html>
`
}

function navGroup({ name, pages }: NavGroup, path: string, to: (target: string) => string): string {
  const items = pages.map((page) => {
    const current = page.path === path ? ' aria-current="page"' : ''
    return `<li><a href="${to(page.path)}"${current}>${escapeHtml(page.title)}</a></li>`
  })
  return `<h2>${name}</h2>\n<ul>${items.join('\n')}</ul>`
}

function contents(headings: readonly Heading[]): string {
  const items = headings.map(
    ({ depth, id, text }) => `<li class="depth-${depth}"><a href="#${id}">${escapeHtml(text)}</a></li>`,
  )
  return `<aside id="toc" popover aria-label="On this page"><h2>On this page</h2>
<ul>${items.join('\n')}</ul></aside>`
}

/** The page above the versions, which leads to the newest. */
export function versionsPage(newest: string, versions: readonly string[]): string {
  const items = versions.map((each) => `<li><a href="${each}/index.html">${each}</a></li>`)
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
${versions.length === 1 ? `<meta http-equiv="refresh" content="0; url=${newest}/index.html">\n` : ''}\
<title>Hence: docs by version</title>
<link rel="stylesheet" href="${newest}/style.css">
</head>
<body>
<main>
<h1>Hence</h1>
<p>Read the <a href="${newest}/index.html">docs of ${newest}</a>, the newest version here.</p>
<ul>${items.join('')}</ul>
</main>
</body>
</html>
`
}

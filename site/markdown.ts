import { Marked, type Token, type Tokens } from 'marked'

// One page of Markdown: its tokens, headings, links, and its HTML.

export interface Heading {
  readonly depth: number
  readonly id: string
  readonly text: string
}

export interface Section {
  readonly id: string
  readonly heading: string
  readonly text: string
}

/** Gives the address of a link or picture on the site. */
export type Rewrite = (href: string) => string

const marked = new Marked({ gfm: true })

/** HTML that also reads on a forge. Anything else is most often a `<` outside of code. */
const allowedTags = /^(?:picture|source|img|br|kbd|sub|sup)$/

export class Markdown {
  readonly #tokens: Token[]
  readonly #ids = new Map<Token, string>()
  readonly headings: readonly Heading[]

  constructor(text: string) {
    // A skill has front matter for programs; a reader has no use for it.
    this.#tokens = marked.lexer(text.replace(/^---\n.*?\n---\n/s, ''))
    const seen = new Map<string, number>()
    const headings: Heading[] = []
    for (const token of this.#tokens.filter(isHeading)) {
      const text = plain(token.tokens)
      const id = slug(text, seen)
      this.#ids.set(token, id)
      headings.push({ depth: token.depth, id, text })
    }
    this.headings = headings
  }

  get title(): string {
    return this.headings[0]?.text ?? ''
  }

  /** Whether a heading has this anchor. */
  has(id: string): boolean {
    return this.headings.some((heading) => heading.id === id)
  }

  /** The addresses of all links and pictures, as they are written. */
  links(): string[] {
    const found: string[] = []
    this.html((href) => {
      found.push(href)
      return href
    })
    return found
  }

  html(rewrite: Rewrite): string {
    const ids = this.#ids
    const writer = new Marked({
      gfm: true,
      renderer: {
        heading(token) {
          const id = ids.get(token)
          const inner = this.parser.parseInline(token.tokens)
          if (id === undefined) return `<h${token.depth}>${inner}</h${token.depth}>\n`
          const anchor = `<a class="anchor" href="#${id}" aria-label="Link to this section">#</a>`
          return `<h${token.depth} id="${id}">${inner} ${anchor}</h${token.depth}>\n`
        },
        code: ({ text, lang }) => fence(text, lang),
        link({ href, tokens }) {
          return `<a href="${escapeHtml(rewrite(href))}">${this.parser.parseInline(tokens)}</a>`
        },
        image: ({ href, text }) => `<img alt="${escapeHtml(text)}" src="${escapeHtml(rewrite(href))}">`,
        html: ({ text }) => checkedHtml(text, rewrite),
        // On a phone a table scrolls by itself, by keyboard too.
        table(token) {
          const cells = (row: Tokens.TableCell[]) =>
            // An empty corner heads nothing.
            row.map((cell) => this.tablecell({ ...cell, header: cell.header && cell.text !== '' })).join('')
          const rows = token.rows.map((row) => this.tablerow({ text: cells(row) })).join('')
          const head = `<thead>${this.tablerow({ text: cells(token.header) })}</thead>`
          const table = `<table>${head}<tbody>${rows}</tbody></table>`
          return `<div class="table" role="group" aria-label="Table" tabindex="0">${table}</div>\n`
        },
      },
    })
    return writer.parser(this.#tokens)
  }

  /** The text under each heading, for the search. */
  sections(): Section[] {
    const sections: { id: string; heading: string; texts: string[] }[] = []
    for (const token of this.#tokens) {
      const id = this.#ids.get(token)
      if (id !== undefined && isHeading(token)) sections.push({ id, heading: plain(token.tokens), texts: [] })
      else sections.at(-1)?.texts.push(plain([token]))
    }
    return sections.map(({ id, heading, texts }) => ({
      id,
      heading,
      text: texts.join(' ').replaceAll(/\s+/g, ' ').trim(),
    }))
  }
}

/** A code block. The word after its language names a file, or for `text` the file that prints this. */
export function fence(text: string, info = ''): string {
  const [language = '', name] = info.split(' ')
  const label = escapeHtml(name ? (language === 'text' ? `${name} prints` : name) : 'Code')
  const caption = name ? `<figcaption>${label}</figcaption>` : ''
  const code = `<code class="${escapeHtml(language || 'plain')}">${escapeHtml(text)}</code>`
  return `<figure>${caption}<pre tabindex="0" role="group" aria-label="${label}">${code}</pre></figure>\n`
}

export function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
}

function isHeading(token: Token): token is Tokens.Heading {
  return token.type === 'heading'
}

function checkedHtml(html: string, rewrite: Rewrite): string {
  const visible = html.replaceAll(/<!--.*?-->/gs, '')
  for (const [, tag] of visible.matchAll(/<\/?([A-Za-z][\w-]*)/g)) {
    if (!allowedTags.test(tag!)) throw new Error(`the tag <${tag}> is not allowed: is it code?`)
  }
  return visible.replaceAll(
    /\b(src|srcset)="([^"]*)"/g,
    (_, name, href) => `${name}="${escapeHtml(rewrite(href))}"`,
  )
}

/** The text of tokens without their markup. */
function plain(tokens: readonly Token[]): string {
  return tokens.map(plainOf).join('')
}

function plainOf(token: Token): string {
  if (token.type === 'table') {
    const { header, rows } = token as Tokens.Table
    return [header, ...rows].flatMap((row) => row.map((cell) => `${plain(cell.tokens)} `)).join('')
  }
  if (token.type === 'list') {
    return (token as Tokens.List).items.map((item) => `${plain(item.tokens)} `).join('')
  }
  if (token.type === 'html') return ''
  if ('tokens' in token && token.tokens) return plain(token.tokens)
  return 'text' in token ? String(token.text) : ' '
}

/** The anchor that GitHub gives to a heading; the second of the same name ends with -1. */
function slug(text: string, seen: Map<string, number>): string {
  const base = text
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{M}\p{N}\p{Pc} -]/gu, '')
    .replaceAll(' ', '-')
  const times = seen.get(base) ?? 0
  seen.set(base, times + 1)
  return times === 0 ? base : `${base}-${times}`
}

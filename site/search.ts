// The search of the site. The index is all text by section: small enough to look through at each key.

export interface SearchIndex {
  /** Address below the version, and title. */
  readonly pages: readonly (readonly [path: string, title: string])[]
  /** Number of the page, anchor, heading, text. */
  readonly sections: readonly (readonly [page: number, id: string, heading: string, text: string])[]
}

export interface Hit {
  readonly path: string
  readonly title: string
  readonly heading: string
  /** The words around the first match: before, the match, after. */
  readonly excerpt: readonly [string, string, string]
}

/** Sections that have every word of the query, best first, at most 20. */
export function search(index: SearchIndex, query: string): Hit[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean)
  if (words.length === 0) return []
  const found: { score: number; section: SearchIndex['sections'][number] }[] = []
  for (const section of index.sections) {
    const score = scoreOf(index, section, words)
    if (score > 0) found.push({ score, section })
  }
  found.sort((a, b) => b.score - a.score)
  return found.slice(0, 20).map(({ section: [page, id, heading, text] }) => ({
    path: `${index.pages[page]![0]}#${id}`,
    title: index.pages[page]![1],
    heading,
    excerpt: excerptOf(text, words),
  }))
}

function scoreOf(
  index: SearchIndex,
  [page, , heading, text]: SearchIndex['sections'][number],
  words: readonly string[],
): number {
  const title = index.pages[page]![1].toLowerCase()
  const headed = heading.toLowerCase()
  const body = text.toLowerCase()
  let score = headed === words.join(' ') ? 100 : 0
  for (const word of words) {
    const inBody = Math.min(5, body.split(word).length - 1)
    const here = rank(headed, word, 20) + rank(title, word, 8) + inBody + rank(body, word, 2)
    if (here === 0) return 0
    score += here
  }
  return score
}

/** More where the word begins, most where it is whole; little within another: `kill` is no `skill`. */
function rank(text: string, word: string, weight: number): number {
  const at = text.indexOf(word)
  if (at < 0) return 0
  if (at > 0 && /\w/.test(text[at - 1]!)) return weight / 8
  return /\w/.test(text[at + word.length] ?? ' ') ? weight : weight * 1.5
}

function excerptOf(text: string, words: readonly string[]): Hit['excerpt'] {
  const lower = text.toLowerCase()
  const word = [words.join(' '), ...words].find((each) => lower.includes(each))
  if (word === undefined) return [text.slice(0, 140), '', '']
  const at = lower.indexOf(word)
  const from = at < 50 ? 0 : text.lastIndexOf(' ', at - 40) + 1
  const end = at + word.length
  const after = text.slice(end, end + 100)
  const whole = end + 100 < text.length ? `${after.slice(0, after.lastIndexOf(' ') + 1)}…` : after
  return [(from > 0 ? '… ' : '') + text.slice(from, at), text.slice(at, end), whole]
}

/** Codes 1 to 30 are one character, which JSON text has nowhere; further ones are two. */
const shortCodes = 30
const longCodes = 95
const longCode = 0x1f
const nameLengthMax = 64

/**
 * The names of the fields in the rows of a collection. Rows are stored with short codes in the place of
 * names, which take half of their bytes. The names are stored once, in the order of their codes; none is
 * removed.
 *
 *   `{"units":3,"price":2550}`  →  `␁3␂2550}`
 */
export class FieldNames {
  readonly #names: string[] = []
  readonly #codes = new Map<string, string>()
  /** The names in the text that was shortened last, in order: most rows of a table have the same. */
  #last: readonly string[] = []

  /** @param text as of `text` */
  constructor(text: string | undefined) {
    this.load(text)
  }

  /** The names with the character before and the colon after them, as JSON text. */
  get text(): string {
    return JSON.stringify(this.#names)
  }

  get count(): number {
    return this.#names.length
  }

  /** Adds the names that are not known yet. */
  load(text = '[]'): void {
    for (const name of JSON.parse(text).slice(this.count)) this.#learn(name)
  }

  /** JSON text with codes in the place of names. */
  shorten(text: string): string {
    let short = ''
    let done = 0
    for (const name of this.#last) {
      const at = text.indexOf(name, done)
      if (at < 0) return this.#shortenNew(text)
      short += text.slice(done, at) + this.#codes.get(name)!
      done = at + name.length
    }
    return done === 0 ? this.#shortenNew(text) : short + text.slice(done)
  }

  #shortenNew(text: string): string {
    const found: string[] = []
    let short = ''
    let done = 0
    for (let end = text.indexOf('":'); end >= 0; end = text.indexOf('":', end + 2)) {
      const begin = text.lastIndexOf('"', end - 1) - 1
      // Inside of a value, a quote comes after a backslash.
      const before = begin < done ? 0 : text.charCodeAt(begin)
      if ((before !== 0x7b && before !== 0x2c) || end - begin > nameLengthMax) continue
      const name = text.slice(begin, end + 2)
      const code = this.#codes.get(name) ?? this.#learn(name)
      if (code === undefined) continue
      found.push(name)
      short += text.slice(done, begin) + code
      done = end + 2
    }
    // Not of a long list, or the search for the names of the next row would take long.
    this.#last = found.length <= shortCodes ? found : []
    return done === 0 ? text : short + text.slice(done)
  }

  /** The text that was shortened; undefined if it has codes of names that are not known. */
  expand(short: string): string | undefined {
    let text = ''
    let done = 0
    for (let at = 0; at < short.length; at++) {
      const code = short.charCodeAt(at)
      if (code > longCode) continue
      const isLong = code === longCode
      const name = this.#names[isLong ? shortCodes + short.charCodeAt(at + 1) - 0x20 : code - 1]
      if (name === undefined) return undefined
      text += short.slice(done, at) + name
      if (isLong) at++
      done = at + 1
    }
    return done === 0 ? short : text + short.slice(done)
  }

  #learn(name: string): string | undefined {
    const n = this.count
    if (n >= shortCodes + longCodes) return undefined
    const code =
      n < shortCodes ? String.fromCharCode(n + 1) : String.fromCharCode(longCode, 0x20 + n - shortCodes)
    this.#names.push(name)
    this.#codes.set(name, code)
    return code
  }
}

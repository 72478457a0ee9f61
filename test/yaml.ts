/**
 * Reads the YAML that the files of `kit/` use: maps, lists, flow style, comments, texts on one line. Anything
 * else is an error, so a file that is read here reads the same everywhere.
 */
export function parseYaml(text: string): unknown[] {
  return text.split(/^---\n/m).map((each) => {
    const lines = each.split('\n').flatMap((line): Line[] => {
      const content = line.replace(/(^|\s)#(?=\s|$).*$/, '').trimEnd()
      return content === '' ? [] : [{ indent: content.search(/\S/), content: content.trim() }]
    })
    const value = block(lines, lines[0]?.indent ?? 0)
    if (lines.length > 0) throw new Error(`What is this? ${lines[0]!.content}`)
    return value
  })
}

interface Line {
  readonly indent: number
  readonly content: string
}

/** Takes the lines of this indent, and those below them. */
function block(lines: Line[], indent: number): unknown {
  if (lines[0]?.content.startsWith('- ')) {
    const list: unknown[] = []
    while (lines[0]?.indent === indent && lines[0].content.startsWith('- ')) {
      const { content } = lines.shift()!
      const rest = content.slice(2)
      if (!/^[\w.-]+:( |$)/.test(rest)) {
        list.push(scalar(rest))
        continue
      }
      // The first entry of a map stands on the line of its dash.
      lines.unshift({ indent: indent + 2, content: rest })
      list.push(block(lines, indent + 2))
    }
    return list
  }
  const map: Record<string, unknown> = {}
  while (lines[0]?.indent === indent && !lines[0].content.startsWith('- ')) {
    const { content } = lines.shift()!
    const found = /^([\w.-]+):(?: +(.*))?$/.exec(content)
    if (found === null) throw new Error(`This is no entry of a map: ${content}`)
    const [, key, value] = found
    if (key! in map) throw new Error(`${key} is there twice`)
    const next = lines[0]
    if (value !== undefined) map[key!] = scalar(value)
    else map[key!] = next !== undefined && next.indent > indent ? block(lines, next.indent) : null
  }
  return map
}

function scalar(text: string): unknown {
  const [value, rest] = flow(text, false)
  if (rest !== '') throw new Error(`There is more after a value: ${rest}`)
  return value
}

/** Returns a value and the text after it. In flow style a plain text ends at a comma or a bracket. */
function flow(text: string, isWithin: boolean): [unknown, string] {
  if (text.startsWith('"')) {
    const [quoted] = /^"(?:[^"\\]|\\.)*"/.exec(text)!
    return [JSON.parse(quoted), text.slice(quoted.length).trimStart()]
  }
  if (text.startsWith('[') || text.startsWith('{')) {
    const end = text.startsWith('[') ? ']' : '}'
    const list: unknown[] = []
    const map: Record<string, unknown> = {}
    let rest = text.slice(1).trimStart()
    while (!rest.startsWith(end)) {
      let key: string | undefined
      if (end === '}') {
        const [whole, name] = /^([\w.-]+): +/.exec(rest) ?? []
        if (name === undefined) throw new Error(`This is no entry of a map: ${rest}`)
        key = name
        rest = rest.slice(whole!.length)
      }
      const [value, after] = flow(rest, true)
      if (key === undefined) list.push(value)
      else map[key] = value
      if (!/^[,\]}]/.test(after)) throw new Error(`A comma is missing before ${after}`)
      rest = after.startsWith(',') ? after.slice(1).trimStart() : after
    }
    return [end === ']' ? list : map, rest.slice(1).trimStart()]
  }
  const [plain] = (isWithin ? /^[^,[\]{}]+/ : /^.+/).exec(text) ?? ['']
  if (/^[&*!|>'%@`]|: /.test(plain) || plain === '') throw new Error(`This YAML is not read here: ${text}`)
  const word = plain.trim()
  const value = /^-?\d+$/.test(word) ? Number(word) : ({ true: true, false: false } as never)[word]
  return [value ?? word, text.slice(plain.length)]
}

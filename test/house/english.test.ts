import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { test } from 'node:test'

// Plain English, counted: two habits that make sentences hard to read, in comments, messages and pages.

const root = resolve(import.meta.dirname, '../..')
const files = execFileSync('git', ['ls-files', '*.ts', '*.md'], { cwd: root, encoding: 'utf8' })
  .trim()
  .split('\n')

/** The comments and messages of a source, or the prose of a page. */
function proseOf(file: string): string[] {
  const text = readFileSync(join(root, file), 'utf8')
  if (file.endsWith('.md')) return text.replaceAll(/^```.*?^```$/gms, '').split(/\n\s*\n/)
  const comments = [...text.matchAll(/\/\*\*?(.*?)\*\/|(?:^[ \t]*\/\/[^\n]*\n)+/gms)].map(([match]) =>
    match.replaceAll(/^\s*(?:\/\*\*?|\*\/|\*|\/\/)/gm, '').replaceAll('*/', ''),
  )
  const messages = [...text.matchAll(/'((?:[^'\\\n]|\\.){12,})'|`((?:[^`\\\n]|\\.){12,})`/g)].flatMap(
    (match) => {
      const message = (match[1] ?? match[2])!.replaceAll(/\$\{[^}]*\}/g, '')
      return message.includes(' ') ? [message] : []
    },
  )
  return [...comments, ...messages]
}

/** The counts of today. Lower them as sentences are rewritten. */
const kinds: Readonly<Record<string, { readonly pattern: RegExp; readonly limit: number }>> = {
  'a sentence opens with What, Whoever or Of what': {
    pattern: /(?:^|[.:!]\s+)(?:What|Whoever|Of what)\b[^.?]*(?=\.|$)/g,
    limit: 2,
  },
  'told, tell or heard': { pattern: /\b(?:told|tells?|heard|hears?)\b/gi, limit: 6 },
}

for (const [kind, { pattern, limit }] of Object.entries(kinds)) {
  test(`${kind}: at most ${limit}`, () => {
    const found = files
      .filter((file) => file !== 'test/house/english.test.ts' && file !== 'CHANGELOG.md')
      .flatMap((file) =>
        proseOf(file).flatMap((prose) =>
          [...prose.trim().matchAll(pattern)].map(
            ({ index }) => `${file}: ${prose.trim().slice(index, index + 80)}`,
          ),
        ),
      )
    assert.ok(found.length <= limit, `${found.length}:\n${found.join('\n')}`)
  })
}

/** Comments and prose of more than 110 characters a line: at most so many, since a few more do no harm. */
const columns = { most: 110, oneLine: 116 }

test('comments and prose have at most 110 characters a line', () => {
  const found = files.flatMap((file) => {
    const isPage = file.endsWith('.md')
    const text = readFileSync(join(root, file), 'utf8')
    const lines = (
      isPage ? text.replaceAll(/^```.*?^```$/gms, (fence) => fence.replaceAll(/.+/g, '')) : text
    ).split('\n')
    return lines.flatMap((line, i) => {
      const isMeant = isPage ? !/^\|/.test(line) : /^\s*(?:\/\*\*|\*|\/\/(?! biome-ignore)) (?! )/.test(line)
      const isLong = line.length > (/^\s*\/\*\* .* \*\/$/.test(line) ? columns.oneLine : columns.most)
      return isMeant && isLong ? [`${file}:${i + 1}`] : []
    })
  })
  assert.deepEqual(found, [])
})

/** About 400: a few lines more are no reason to part what belongs together. */
const linesMax = 425

test('no source is longer than about 400 lines without a reason on its first lines', () => {
  for (const file of files.filter((file) => file.startsWith('src/') && !file.endsWith('.test.ts'))) {
    const lines = readFileSync(join(root, file), 'utf8').split('\n')
    const hasReason = /longer than 400 lines, because/i.test(lines.slice(0, 12).join(' '))
    assert.ok(lines.length <= linesMax + 1 || hasReason, `${file} has ${lines.length - 1} lines`)
  }
})

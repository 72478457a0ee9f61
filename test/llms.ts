import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

// llms.txt, the index of the docs as plain text. `npm run llms` writes it anew.

const root = join(import.meta.dirname, '..')

/** The pages in the order of the README, each with the first sentence below its title. */
export async function llmsTxt(): Promise<string> {
  const readme = await readFile(join(root, 'README.md'), 'utf8')
  const [, about] = /^Hence gives .*?\n\n/ms.exec(readme)?.[0].match(/^(.*?\.)\s/s) ?? []
  const sections = [
    ...readme
      .split('\n## Read on\n')[1]!
      .split('\n## ')[0]!
      .matchAll(/^- .*?(?=^- |$(?!\s))/gms),
  ]
  const lines: string[] = ['# Hence', '', `> ${oneLine(about!)}`]
  for (const [section] of sections) {
    const links = [...section.matchAll(/\]\((docs\/[^)]+|(?:bench|kit)\/README\.md|CHANGELOG\.md)\)/g)].map(
      ([, path]) => path!,
    )
    const name =
      /^- ([A-Z][\w ]+): \[/.exec(section)?.[1] ?? (lines.includes('## Start') ? undefined : 'Start')
    if (name) lines.push('', `## ${name}`, '')
    for (const path of links) lines.push(await entry(path))
  }
  return `${lines.join('\n')}\n`
}

async function entry(path: string): Promise<string> {
  const text = await readFile(join(root, path), 'utf8')
  const title = /^# (.*)$/m.exec(text)![1]!
  const first = text
    .split('\n\n')
    .find((paragraph) => /^[A-Z`_*[]/.test(paragraph) && !paragraph.startsWith('```'))
  const sentence = /^.*?[.:](?=\s|$)/s.exec(first ?? '')?.[0] ?? ''
  return `- [${oneLine(title)}](${path}): ${oneLine(sentence).replace(/:$/, '.')}`
}

/** Without emphasis, links and line ends. */
function oneLine(markdown: string): string {
  return markdown
    .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replaceAll(/[*_](\S.*?\S)[*_]/g, '$1')
    .replaceAll(/\s+/g, ' ')
}

if (import.meta.main) await writeFile(join(root, 'llms.txt'), await llmsTxt())

import { createInterface } from 'node:readline/promises'
import { note, paintError } from './output.ts'

/**
 * Whether a person agrees to what cannot be taken back: by `--yes`, or on a terminal by typing a word. Where nobody
 * can be asked, the answer is no.
 */
export async function confirmed(word: string, yes: boolean): Promise<boolean> {
  if (yes) return true
  if (!process.stdin.isTTY) {
    note(`Nothing was changed: confirm with --yes, or on a terminal by typing "${word}".`)
    return false
  }
  const asked = createInterface({ input: process.stdin, output: process.stderr })
  try {
    const answer = await asked.question(`Type ${paintError.strong(word)} to go on: `)
    if (answer.trim() === word) return true
    note('Nothing more was changed.')
    return false
  } finally {
    asked.close()
  }
}

import { createInterface } from 'node:readline/promises'
import { note, paintError, visible } from './output.ts'

/** Asks for consent to what cannot be undone: `--yes`, or a word on a terminal. Without one: no. */
export async function confirmed(word: string, yes: boolean | undefined): Promise<boolean> {
  if (yes) return true
  if (!process.stdin.isTTY) {
    note(`Nothing was changed: confirm with --yes, or on a terminal by typing "${word}".`)
    return false
  }
  const asked = createInterface({ input: process.stdin, output: process.stderr })
  try {
    const answer = await asked.question(visible(`Type ${paintError.strong(word)} to continue: `))
    if (answer.trim() === word) return true
    note('Nothing was changed.')
    return false
  } finally {
    asked.close()
  }
}

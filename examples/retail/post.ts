import { appendFile, readFile } from 'node:fs/promises'
import { type Handlers, handlers } from 'hence'
import { formatMoney } from './money.ts'
import type { Shop } from './shop.ts'

/** A delivered letter. */
export interface Letter {
  /** The id of the effect. A letter that arrives twice has the same one. */
  readonly id: string
  readonly to: string
  readonly text: string
}

/**
 * Writes letters to a file, one a line, in place of the outside world. It may deliver a letter twice, if the
 * process dies between the letter and the record of its delivery.
 */
export function postTo(file: string): Handlers<Shop> {
  const post = (letter: Letter) => appendFile(file, `${JSON.stringify(letter)}\n`, { flush: true })
  return handlers<Shop>({
    apology: ({ id, input: { to, number, stockCode, amount } }) =>
      post({
        id,
        to,
        text: `We are out of ${stockCode}, so order ${number} over £${formatMoney(amount)} is cancelled. We are sorry.`,
      }),
    'revised-statement': ({ id, input: { to, before, after } }) =>
      post({
        id,
        to,
        text: `We wrote that you have spent £${formatMoney(before)} with us. The right amount is £${formatMoney(after)}. We are sorry.`,
      }),
  })
}

/** All letters in the order of their arrival, including duplicates. */
export async function readPost(file: string): Promise<Letter[]> {
  const text = await readFile(file, 'utf8').catch((error) => {
    if (error.code === 'ENOENT') return ''
    throw error
  })
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line))
}

/** A text with their number and the first ones. */
export function describeLetters(letters: readonly Letter[], file: string): string {
  const once = [...new Map(letters.map((letter) => [letter.id, letter])).values()]
  return [
    `${once.length} customers got a letter (${file}):`,
    ...once.slice(0, 2).map(({ to, text }) => `  To ${to}: ${text}`),
  ].join('\n')
}

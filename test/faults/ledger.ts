import { closeSync, fdatasyncSync, openSync, readFileSync, writeSync } from 'node:fs'
import type { Reply } from 'hence'
import type { Sent } from './bank.ts'

type Line = { readonly sent: Sent } | { readonly answered: Reply }

/**
 * A file of what a client has sent and what it was told, one line each; every line is durable before the
 * client goes on, so it knows at least what it may rely on.
 */
export class Ledger {
  readonly #file: number

  constructor(path: string) {
    this.#file = openSync(path, 'a')
  }

  sent(requests: readonly Sent[]): void {
    this.#append(requests.map((sent) => ({ sent })))
  }

  answered(replies: readonly Reply[]): void {
    this.#append(replies.map((answered) => ({ answered })))
  }

  #append(lines: readonly Line[]): void {
    if (lines.length === 0) return
    writeSync(this.#file, lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
    fdatasyncSync(this.#file)
  }

  close(): void {
    closeSync(this.#file)
  }
}

/** What a ledger's file says: every request, with its first answer where there was one. */
export function readLedger(path: string): Map<string, { readonly sent: Sent; reply?: Reply }> {
  const all = new Map<string, { readonly sent: Sent; reply?: Reply }>()
  for (const text of readFileSync(path, 'utf8').trimEnd().split('\n')) {
    const line = JSON.parse(text) as Line
    if ('sent' in line) all.set(line.sent.id, { sent: line.sent })
    else all.get(line.answered.requestId)!.reply ??= line.answered
  }
  return all
}

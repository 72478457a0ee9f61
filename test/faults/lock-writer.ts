/**
 * Opens the log in the directory named on the command line, and obeys lines on standard input: `append TEXT`
 * prints `at OFFSET` or `error CODE`, `copy` copies the directory as an embedding program may.
 */
import { cpSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { HenceError, systemClock } from 'hence'
import { openDirectory } from '../../src/storage/storage.ts'

const directory = process.argv[2]!
const print = (line: string) => process.stdout.write(`${line}\n`)

const storage = await openDirectory({ directory, partitions: 1, clock: systemClock, report: () => {} })
print('open')
for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'copy') {
    cpSync(directory, `${directory}-copy`, { recursive: true })
    print('copied')
    continue
  }
  const text = line.slice('append '.length)
  await storage.log.append(0, [Buffer.from(text)]).then(
    ({ offset }) => print(`at ${offset}`),
    (error) => print(`error ${error instanceof HenceError ? error.code : error}`),
  )
}
await storage.close().catch((error) => print(`error ${error instanceof HenceError ? error.code : error}`))

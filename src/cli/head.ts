import { checkConsistency, compareHeads, type Growth } from '../audit/consistency.ts'
import { headLine, parseHead, readHead, type SignedHead } from '../audit/head.ts'
import { readPublicKey } from '../audit/signing-key.ts'
import { counted } from '../plain-text.ts'
import { command, group, type ServiceOptions } from './command.ts'
import { readInput } from './input-file.ts'
import { withService } from './service.ts'
import { exitCode } from './terminal/exit-code.ts'
import { note, paint, print, printResult } from './terminal/output.ts'

export function headCommand() {
  return group('head', 'get the signed head of a log, and check that the log has only grown since', [
    getCommand(),
    checkCommand(),
  ])
}

function getCommand() {
  return command('get', 'print the newest signed head, or the proof that the log has only grown since one', [
    'hence head get --url https://shop.example/hence > monday.json',
    'hence head get --since monday.json > proof.json',
    'hence head get --since receipt.json --data data',
  ])
    .option(
      '--since <file>',
      'prove that the log has only grown since this head, or the one in this receipt or proof; of several ' +
        'heads the last; - reads standard input',
    )
    .engine()
    .runs(async ({ since, ...options }: ServiceOptions & { since?: string }) => {
      const earlier = since === undefined ? undefined : headIn(await readInput(since))
      await withService({ ...options, audit: true }, async (opened) => {
        if (earlier === undefined) await print(headLine(await opened.head()))
        else await print(JSON.stringify(await opened.consistency(earlier.partitions.map(({ size }) => size))))
      })
    })
}

interface HeadCheckOptions {
  readonly key: string
  readonly json?: true
}

function checkCommand() {
  return command('check', 'check that a log has only grown between two heads, with the public key alone', [
    'hence head check monday.json proof.json --key public-key.pem',
    'hence head check monday.json tuesday.json --key public-key.pem     checks that two heads do not contradict',
  ])
    .argument(
      '<earlier>',
      'the earlier head, or a receipt or proof that contains it; of several heads the last',
    )
    .argument('<later>', 'the proof from `hence head get --since`, or a later head')
    .requiredOption('--key <file>', 'the public key: audit/public-key.pem of the data directory, or a copy')
    .json()
    .runs(check)
}

async function check(
  earlierPath: string,
  laterPath: string,
  { key: keyPath, json }: HeadCheckOptions,
): Promise<number | undefined> {
  const key = readPublicKey(await readInput(keyPath))
  const earlier = headIn(await readInput(earlierPath))
  const text = await readInput(laterPath)
  const proof = jsonIn(text)
  if (proof?.format === 'hence-consistency') {
    const grown = checkConsistency(key, earlier, proof)
    return printGrowth(grown, json)
  }
  const later = headIn(text)
  const open = compareHeads(key, earlier, later)
  const known = { logId: later.logId, from: earlier.time, to: later.time }
  if (open.length === 0) return printGrowth({ ...known, records: 0 }, json)
  if (json) await print(JSON.stringify({ proven: false, ...known, partitions: open }))
  note(
    'The heads do not contradict each other, but they prove nothing about partitions that have grown ' +
      `(${open.join(', ')}). Get the proof with \`hence head get --since\`.`,
  )
  return exitCode.nothingFound
}

/** Reads the head in a text: a head, one in a receipt or a proof, or the last of many lines. */
function headIn(text: string): SignedHead {
  const value = jsonIn(text)
  if (value?.format === 'hence-receipt' || value?.format === 'hence-consistency') return readHead(value.head)
  return parseHead(value === undefined ? (text.trimEnd().split('\n').at(-1) ?? '') : text)
}

function jsonIn(text: string): { readonly format?: unknown; readonly head?: unknown } | undefined {
  try {
    return JSON.parse(text) ?? undefined
  } catch {
    return undefined
  }
}

async function printGrowth(grown: Growth, json: boolean | undefined): Promise<undefined> {
  const { logId, from, to, records } = grown
  const [earlier, later] = [from, to].map((time) => new Date(time).toISOString())
  await printResult(json, { proven: true, ...grown }, [
    `${paint.good('✔')} Log ${logId} has only grown, by ${counted(records, 'record')}, from ${earlier} to ${later}:`,
    '  its key vouches that no record of the earlier head was changed.',
  ])
}

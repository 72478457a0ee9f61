import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseHead, type SignedHead } from '../audit/head.ts'
import { HeadCheck } from '../audit/head-check.ts'
import { someHeads } from '../audit/head-file.ts'
import { publicKeyName, readPublicKey } from '../audit/signing-key.ts'
import { type Flaw, flawOf, verifyPartition } from '../audit/verify.ts'
import { HenceError } from '../failure.ts'
import type { LogSnapshot } from '../log/file-log/snapshot.ts'
import { snapshotConsistently } from '../offline/data-snapshot.ts'
import { readInput, unreadableFile } from '../offline/input-file.ts'
import { logOfSnapshot } from '../offline/log-of-snapshot.ts'
import { copyStates, type History, verifyHistory } from '../offline/verify-history.ts'
import { lockHolderOf } from '../storage/directory-lock.ts'
import { command, dataOption, jsonOption, runs } from './command.ts'
import { exitCode } from './terminal/exit-code.ts'
import { paint, print } from './terminal/output.ts'
import { Progress } from './terminal/progress.ts'

/** `hence verify`: whether a data directory is what was written, signed and derived. */
export function verifyCommand() {
  return command(
    'verify',
    'check every byte of a log, its chain, what was signed of it, and what was derived from it',
    [
      'hence verify --data data',
      'hence verify --data data --head published.ndjson --key public-key.pem     against heads that somebody else kept',
      'hence verify --data data --no-history --json',
    ],
  )
    .addOption(dataOption().makeOptionMandatory())
    .option('--head <files...>', 'heads that were published, besides those in the data directory')
    .option('--key <file>', 'the public key to check heads with; default: that of the data directory')
    .option('--no-history', 'leave out deriving everything again')
    .addOption(jsonOption())
    .addHelpText('after', '\nIt changes nothing, and it may run beside a running process.')
    .action(runs(verify))
}

interface VerifyOptions {
  readonly data: string
  readonly head?: readonly string[]
  readonly key?: string
  readonly history: boolean
  readonly json?: true
}

async function verify(options: VerifyOptions, _command: unknown): Promise<number> {
  const { data, json } = options
  const flaws: Flaw[] = []
  const progress = new Progress()
  // Read before the log: the log must hold all that was signed until now.
  const inUse = (await lockHolderOf(data)) !== undefined
  const heads = await gatheredHeads(options)
  const temporary = await mkdtemp(join(tmpdir(), 'hence-verify-'))
  let [records, bytes, checked] = [0, 0, 0]
  let logId: string | null = null
  let history: History = { checked: false, reason: 'it was not asked for' }
  try {
    const states = options.history ? await copyStates(data, temporary, flaws) : undefined
    let snapshot: LogSnapshot | undefined
    let ends: readonly number[] | undefined
    try {
      ;({ snapshot, ends } = await snapshotConsistently(data))
    } catch (error) {
      if (error instanceof HenceError && error.code === 'no-log') throw error
      flaws.push(flawOf(error))
    }
    if (snapshot !== undefined) {
      logId = snapshot.id
      const check = heads.key && new HeadCheck(snapshot.id, heads.key)
      for (const [source, each] of heads.found) {
        const wrong = check!.add(each, source)
        if (wrong !== undefined) flaws.push({ code: 'head-mismatch', message: wrong, file: source })
      }
      let isWhole = true
      for (const each of snapshot.partitions) {
        const verified = await verifyPartition(each, {
          heads: check,
          inUse,
          progress: (read) => progress.add('checked', read / 1024 / 1024, 'MiB'),
        })
        records += verified.records
        bytes += verified.bytes
        flaws.push(...verified.flaws)
        isWhole &&= verified.flaws.length === 0
      }
      for (const flaw of check?.flaws ?? []) flaws.push({ code: 'head-mismatch', ...flaw })
      checked = check?.count ?? 0
      if (states !== undefined) {
        const log = logOfSnapshot(snapshot, ends)
        history = isWhole
          ? await verifyHistory({ data, log, states, temporary, flaws, progress })
          : { checked: false, reason: 'the log is not whole' }
      }
    }
  } finally {
    progress.end()
    await rm(temporary, { recursive: true, force: true })
  }
  const ok = flaws.length === 0
  if (json) {
    await print(
      JSON.stringify({ directory: resolve(data), ok, logId, records, bytes, heads: checked, history, flaws }),
    )
  } else {
    for (const { message } of flaws) await print(`${paint.bad('✘')} ${message}`)
    await print(
      `${ok ? paint.good('✔') : '·'} ${records} records, ${bytes} bytes, read and checked; ${checked} signed heads.`,
    )
    const { generations = [] } = history
    if (generations.length === 0) await print(derivedText(history, ''))
    for (const each of generations) {
      const which =
        generations.length === 1 ? '' : `Generation ${each.generation}${each.live ? ', which is live' : ''}: `
      await print(derivedText(each, which))
    }
  }
  return ok ? exitCode.ok : exitCode.operator
}

function derivedText(history: History, which: string): string {
  return history.checked
    ? `${paint.good('✔')} ${which}${history.tables} tables, as they are derived again from ${history.records} records.`
    : `${paint.warn('!')} ${which}Not derived again: ${history.reason}.`
}

/** The heads of the data directory, those that were named, and the key to check them with. */
async function gatheredHeads({ data, head: named = [], key: keyFile }: VerifyOptions) {
  const folder = join(data, 'audit')
  const stored = join(folder, 'heads.ndjson')
  const files = (await isThere(stored)) ? [stored, ...named] : named
  const found: [source: string, head: SignedHead][] = []
  for (const file of files) {
    const heads = await headsOf(file)
    // Whoever names a file means to compare: that there is nothing to compare with must not look like a success.
    if (heads.length === 0 && file !== stored) parseHead(await readInput(file))
    for (const head of heads) found.push([file, head])
  }
  if (found.length === 0) return { found, key: undefined }
  return { found, key: readPublicKey(await readInput(keyFile ?? join(folder, publicKeyName))) }
}

async function headsOf(file: string): Promise<SignedHead[]> {
  try {
    return await someHeads(file)
  } catch (error) {
    if (error instanceof HenceError) throw error
    throw unreadableFile(file, error)
  }
}

function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

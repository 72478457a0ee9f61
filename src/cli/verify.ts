import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseHead, type SignedHead } from '../audit/head.ts'
import { HeadCheck } from '../audit/head-check.ts'
import { someHeads } from '../audit/head-file.ts'
import { derivedDigests } from '../audit/history.ts'
import { lookedLog } from '../audit/looked-log.ts'
import { publicKeyName, readPublicKey } from '../audit/signing-key.ts'
import { type Flaw, flawOf, verifyPartition } from '../audit/verify.ts'
import { baseOf } from '../derivation/control-history.ts'
import { findControls } from '../derivation/controls.ts'
import type { GenerationHost } from '../derivation/generation.ts'
import { sandboxed } from '../derivation/program.ts'
import { HenceError } from '../failure.ts'
import { holderOf } from '../log/file-log/lock.ts'
import type { LogLook } from '../log/file-log/look.ts'
import { copyLmdbStore, openLmdbStore } from '../state/lmdb-store.ts'
import { readCode } from './code.ts'
import { command, dataOption, jsonOption, runs } from './command.ts'
import { lookAtData } from './data.ts'
import { exitCode } from './exit-code.ts'
import { readInput, unreadableFile } from './input-file.ts'
import { paint, print } from './output.ts'
import { Progress } from './progress.ts'
import { liveState, lookAtState, lookAtStore } from './state.ts'

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

/** What came of deriving everything again. */
type History =
  | { readonly checked: true; readonly tables: number; readonly records: number }
  | { readonly checked: false; readonly reason: string }

async function verify(options: VerifyOptions, _command: unknown): Promise<number> {
  const { data, json } = options
  const flaws: Flaw[] = []
  const progress = new Progress()
  // Before the log is looked at: what was signed until now, it has to hold.
  const inUse = (await holderOf(data)) !== undefined
  const heads = await gatheredHeads(options)
  const temporary = await mkdtemp(join(tmpdir(), 'hence-verify-'))
  let [records, bytes, checked] = [0, 0, 0]
  let logId: string | null = null
  let history: History = { checked: false, reason: 'it was not asked for' }
  try {
    const state = options.history ? await copiedState(data, temporary) : undefined
    let look: LogLook | undefined
    try {
      look = await lookAtData(data)
    } catch (error) {
      if (error instanceof HenceError && error.code === 'no-log') throw error
      flaws.push(flawOf(error))
    }
    if (look !== undefined) {
      logId = look.id
      const check = heads.key && new HeadCheck(look.id, heads.key)
      for (const [source, each] of heads.found) {
        const wrong = check!.add(each, source)
        if (wrong !== undefined) flaws.push({ code: 'head-mismatch', message: wrong, file: source })
      }
      for (const each of look.partitions) {
        const verified = await verifyPartition(each, {
          heads: check,
          inUse,
          progress: (read) => progress.add('checked', read / 1024 / 1024, 'MiB'),
        })
        records += verified.records
        bytes += verified.bytes
        flaws.push(...verified.flaws)
      }
      for (const flaw of check?.flaws ?? []) flaws.push({ code: 'head-mismatch', ...flaw })
      checked = check?.count ?? 0
      if (state !== undefined) {
        const isWhole = flaws.every(({ code }) => code === 'head-mismatch')
        history = isWhole
          ? await derivedAgain(data, look, temporary, state, flaws, progress)
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
    await print(
      history.checked
        ? `${paint.good('✔')} ${history.tables} tables, as they are derived again from ${history.records} records.`
        : `${paint.warn('!')} Not derived again: ${history.reason}.`,
    )
  }
  return ok ? exitCode.ok : exitCode.operator
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

/** Copies the checkpoint, before the log is looked at, which is then never behind it; undefined without one. */
async function copiedState(data: string, temporary: string): Promise<string | undefined> {
  const live = join(temporary, 'live')
  await mkdir(live)
  if ((await lookAtState(data)) === undefined) return ''
  await copyLmdbStore(await liveState(data), live)
  return live
}

async function derivedAgain(
  data: string,
  look: LogLook,
  temporary: string,
  live: string,
  flaws: Flaw[],
  progress: Progress,
): Promise<History> {
  if (live === '') return { checked: false, reason: 'no state was saved yet, so there is nothing to compare' }
  const { version, generation } = (await lookAtStore(live))!
  const log = lookedLog(look)
  const { facts } = await findControls(
    log,
    look.partitions.map(() => 0),
  )
  const base = baseOf(facts, generation) ?? version
  const versions = new Set([
    base,
    version,
    ...facts.filter((fact) => fact.generation === generation).map((fact) => fact.version),
  ])
  for (const each of versions) {
    if ((await readCode(data, each).catch(() => undefined)) === undefined)
      return { checked: false, reason: `the code of version ${each.slice(0, 12)} is not kept` }
  }
  try {
    const digests = []
    let records = 0
    for (const directory of [live, join(temporary, 'again')]) {
      let told = 0
      const host: GenerationHost = {
        log,
        openStore: (_, collections) => openLmdbStore({ directory, collections }),
        programOf: async (version) => sandboxed(await readCode(data, version)),
        checked: false,
      }
      digests.push(
        await derivedDigests(host, generation, base, (applied) => {
          progress.add('derived', applied - told, 'records')
          told = applied
        }),
      )
      records = told
    }
    const [before, again] = digests
    for (const [table, digest] of again!) {
      if (before!.get(table) === digest) continue
      const message =
        `Table "${table}" is not what the log and the code that is kept derive. Remove the folder \`state\` while no process runs, and it is derived again; ` +
        'find out who wrote to it, or what in the code is not deterministic.'
      flaws.push({ code: 'table-differs', message })
    }
    return { checked: true, tables: again!.size, records }
  } catch (error) {
    flaws.push(flawOf(error))
    return { checked: false, reason: 'it could not be, as told above' }
  }
}

function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

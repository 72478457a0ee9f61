import { setFlagsFromString } from 'node:v8'
import { Option } from 'commander'
import type { BusyKey, DryRun, RequestJudges, SchemaFit } from '../offline/index.ts'
import { Spool } from '../server/spool.ts'
import { collectEarly } from './collect-early.ts'
import { command, logTime, wholeNumber } from './command.ts'
import type { DiffOptions } from './reprocess/diff.ts'
import { diffLines, formatOf, formatOptions, writeLines, writeText } from './reprocess/diff.ts'
import { count } from './reprocess/status-text.ts'
import { exitCode } from './terminal/exit-code.ts'
import { note, paint } from './terminal/output.ts'
import { withProgress } from './terminal/progress.ts'

interface CheckCommandOptions extends Pick<DiffOptions, 'format' | 'samples' | 'out' | 'json'> {
  readonly data: string
  readonly sample?: number
  readonly until?: number
  readonly failOn?: 'differences'
  readonly allowMisfits?: readonly string[]
}

export function checkCommand() {
  const check = command(
    'check',
    'check that new code can read a log, and show what it would derive differently; changes nothing',
    [
      'hence check shop.ts --data data',
      'hence check shop.ts --data /mnt/backup/2026-11-24 --sample 100000 --fail-on differences',
    ],
  )
    .argument('<app>', 'the module of the new code, for example shop.ts')
    .readsLog()
    .option('--sample <records>', 'read about this many records, from the first on', wholeNumber)
    .option(
      '--until <time>',
      'read records up to this log time: ISO 8601, or milliseconds since 1970',
      logTime,
    )
    .addOption(new Option('--fail-on <what>', failMeaning).choices(['differences']))
    .addOption(
      new Option(
        '--allow-misfits <kinds...>',
        `exit with 0 though stored values of these kinds do not fit their new schema`,
      ).choices(['all', 'request', 'event', 'timer', 'row', 'effect', 'result']),
    )
  return formatOptions(check)
    .addHelpText(
      'after',
      `
It works in a temporary directory, and may run beside a process that has the data directory open. It exits with 0 if the
new code can read the log, and with ${exitCode.unreadable} if the log holds requests whose type or version the code does not know, or
messages, rows, waiting effects or results do not fit its schemas.`,
    )
    .runs(checkCode)
}

const failMeaning = `exit with ${exitCode.differs} if anything differs`

async function checkCode(app: string, options: CheckCommandOptions): Promise<number> {
  // It derives everything twice, and a third of its memory would be garbage that V8 need not collect yet.
  collectEarly(20)
  setFlagsFromString('--semi-space-growth-factor=1')
  const { data, sample: records, until, failOn, allowMisfits = [], samples, out } = options
  const format = formatOf(options)
  const spool = format === 'ndjson' ? new Spool() : undefined
  const each = spool && ((line: string) => spool.add(line))
  let result: DryRun | undefined
  const { dryRun } = await import('../offline/check.ts')
  try {
    result = await withProgress((work) => dryRun({ data, app, records, until, samples, each, ...work }))
  } finally {
    if (result?.diff === undefined) spool?.drop()
  }
  if (format === 'json') await writeText([JSON.stringify(result)], out)
  else noteFindings(result)
  if (result.unreadable.length > 0) return exitCode.unreadable
  if (spool !== undefined) await writeLines(spool.texts(), out)
  if (format === 'text') {
    await writeText(diffLines(result.diff!), out)
    noteDerived(result)
  }
  const isAllowed = (kind: string) => allowMisfits.includes('all') || allowMisfits.includes(kind)
  if (misfitsIn(result, isAllowed) > 0) return exitCode.unreadable
  return failOn === 'differences' && result.diff!.differences > 0 ? exitCode.differs : exitCode.ok
}

function noteFindings({ judges, busyKeys, schemas, unreadable }: DryRun): void {
  for (const each of judges) note(judgesText(each))
  for (const each of busyKeys) note(busyKeyText(each))
  for (const each of schemas) for (const line of misfitText(each)) note(line)
  for (const { type, version, count: many, first } of unreadable)
    note(
      `${paint.bad('✘')} The new code does not know ${count(many)} requests in the log: ` +
        `${JSON.stringify(type)} of version ${version}, the first at ${first}.`,
    )
}

function noteDerived(result: DryRun): void {
  const { records, isPart, failures = 0 } = result
  const part = isPart ? ' (the log has more)' : ''
  const misfits = misfitsIn(result)
  if (misfits === 0) note(`${count(records)} records can be read, and were derived${part}.`)
  else {
    note(
      `${count(records)} records were derived${part}. ${paint.bad(`${count(misfits)} stored values do not fit`)} ` +
        'the schemas of the new code, which gets them as they are: schemas check what arrives, not what is ' +
        'stored. Raise the version of a message and add an upcaster; derive rows again. If the code copes ' +
        'with them: --allow-misfits.',
    )
  }
  if (failures > 0) note(paint.bad(`${count(failures)} derivations of the new code failed.`))
}

function misfitsIn({ schemas }: DryRun, isAllowed = (_kind: string) => false): number {
  return schemas.reduce((sum, { kind, misfits }) => sum + (isAllowed(kind) ? 0 : misfits), 0)
}

const kinds = {
  request: 'requests',
  event: 'events',
  timer: 'timers of event',
  row: 'rows of table',
  effect: 'waiting effects',
  result: 'results of effect',
}

function misfitText({ kind, name, version = 1, compared, misfits, samples, stopped }: SchemaFit): string[] {
  if (misfits === 0) return []
  const of = `${kinds[kind]} ${JSON.stringify(name)}${version === 1 ? '' : ` of version ${version}`}`
  const end = stopped ? '. The schema took too long, so the rest was not compared' : ''
  return [
    `${paint.bad('✘')} ${count(misfits)} of ${count(compared)} ${of} do not fit the new schema${end}:`,
    ...samples.map(({ at, issues }) => `    ${at}  ${issues}`),
    ...(misfits > samples.length ? ['    …'] : []),
  ]
}

/** The judges that a request waits for, and whether it works while they cannot be reached. */
function judgesText({ type, of, judges }: RequestJudges): string {
  const name = `Request ${JSON.stringify(type)}`
  if (of === 0) return `${name}: there is none in the log, so its claims are not known.`
  if (judges.length === 0) return `${name} waits for no other key.`
  const texts = judges.map(({ constraint, scope, mode, count: many }) => {
    const judge = `"${constraint}", which keys of "${scope}" judge (${count(many)} of ${count(of)})`
    return mode === 'strict'
      ? `waits for ${judge}: while they cannot be written it gets 202, or 503 and goes on with the same id`
      : `claims ${judge}, and goes on while they cannot be written: it is judged afterwards`
  })
  return `${name} ${texts.join('; ')}.`
}

function busyKeyText({ kind, type, key, count: many, of }: BusyKey): string {
  const share = many === of ? `All ${count(of)}` : `At least ${count(many)} of ${count(of)}`
  const percent = many === of ? '' : ` (${Math.floor((many / of) * 100)} %)`
  return (
    `${paint.warn('!')} ${share} ${kinds[kind]} ${JSON.stringify(type)}${percent} have the partition key ` +
    `${JSON.stringify(key)}. They are one queue, on whatever number of partitions; with strict claims on ` +
    'other keys each waits for the one before. Give each order, booking or account a key of its own.'
  )
}

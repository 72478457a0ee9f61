import { Option } from 'commander'
import { type Victim, type Violation, victimCount } from '../constraint/tables.ts'
import { changeError } from '../failure.ts'
import { counted } from '../plain-text.ts'
import type { KeyedViolation } from '../query/judged.ts'
import { command, group, repeated, type ServiceOptions, wholeNumber } from './command.ts'
import { type Opened, withService } from './service.ts'
import { exitCode } from './terminal/exit-code.ts'
import { newRequestId, note, paint, printResult } from './terminal/output.ts'

export function violationsCommand() {
  return group('violations', 'show violations of constraints, and decide those under review', [
    listCommand(),
    showCommand(),
    resolveCommand(),
  ])
}

function listCommand() {
  return command('list', 'list violations, oldest first', [
    'hence violations list',
    'hence violations list --state resolved --json',
  ])
    .addOption(
      new Option('--state <state>', 'only violations in this state')
        .choices(['open', 'compensating', 'resolved', 'all'])
        .default('open'),
    )
    .engine()
    .runs(async (options: ServiceOptions & { state: ShownState }) => {
      const found = await withService(options, (opened) => violationsOf(opened, options.state))
      for (const each of found) await printResult(options.json, each, lineOf(each))
      if (found.length > 0) return exitCode.ok
      note(options.state === 'all' ? 'There are no violations.' : `There are no ${options.state} violations.`)
      return exitCode.nothingFound
    })
}

function showCommand() {
  return command('show', 'show a violation with its victims and its history', [
    'hence violations show 5f1e4c0a-…',
  ])
    .argument('<id>', 'the id of the violation')
    .engine()
    .runs(async (id: string, options: ServiceOptions) => {
      const found = await withService(options, (opened) => violationOf(opened, id))
      await printResult(options.json, found)
    })
}

interface ResolveOptions extends ServiceOptions {
  readonly action: 'compensate' | 'waive' | 'raise-limit' | 'choose'
  readonly units?: number
  readonly victim?: readonly string[]
  readonly reason: string
  readonly id?: string
}

function resolveCommand() {
  return command('resolve', 'decide an open violation', [
    'hence violations resolve 5f1e4c0a-… --action compensate --reason "sold out"',
    'hence violations resolve 5f1e4c0a-… --action raise-limit --units 2 --reason "two more arrived"',
    'hence violations resolve 5f1e4c0a-… --action choose --victim REQUEST-ID --victim REQUEST-ID@ann ' +
      '--reason "they agreed"',
  ])
    .argument('<violation>', 'the id of the violation')
    .addOption(
      new Option('--action <what>', 'compensate by the policy, waive, raise the limit, or choose the victims')
        .choices(['compensate', 'waive', 'raise-limit', 'choose'])
        .makeOptionMandatory(),
    )
    .option('--units <number>', 'with raise-limit: by how much (default: the excess)', wholeNumber)
    .option(
      '--victim <request>',
      'with choose: the request id of a victim, or REQUEST-ID@PRINCIPAL; may be repeated',
      repeated,
    )
    .requiredOption('--reason <text>', 'the reason, which is kept in the history')
    .option(
      '--id <id>',
      'the request id, to send the decision again (default: a new id, printed before sending)',
    )
    .engine()
    .runs(async (id: string, options: ResolveOptions) => {
      const { action, units, victim = [], reason } = options
      return withService(options, async (opened) => {
        const found = await violationOf(opened, id)
        const requestId = options.id ?? (await newRequestId(options.json))
        const input = {
          violation: id,
          key: found.key,
          action,
          reason,
          ...(units !== undefined && { units }),
          ...(action === 'choose' && { victims: victim.map(requestNamed) }),
        }
        const { reply, isAccepted, text } = await opened.decide('hence:resolve-violation', input, requestId)
        await printResult(options.json, reply, isAccepted ? paint.good('resolved') : text)
        return isAccepted ? exitCode.ok : exitCode.notAccepted
      })
    })
}

/** `REQUEST-ID` or `REQUEST-ID@principal`. */
function requestNamed(text: string): { requestId: string; principal?: string } {
  const at = text.indexOf('@')
  return at === -1 ? { requestId: text } : { requestId: text.slice(0, at), principal: text.slice(at + 1) }
}

type ShownState = Violation['state'] | 'all'

async function violationsOf({ service }: Opened, state: ShownState): Promise<KeyedViolation[]> {
  const query = { index: 'byState', prefix: state === 'all' ? [] : [state] }
  const rows = (await service.scan('hence.violations' as never, query as never)) as {
    readonly key: readonly string[]
    readonly value: Violation
  }[]
  return rows.map(({ key, value }) => ({ ...value, key: key[0]!, victims: [] }))
}

async function violationOf(opened: Opened, id: string): Promise<KeyedViolation> {
  const found = (await violationsOf(opened, 'all')).find((each) => each.id === id)
  if (found === undefined) throw changeError('violation-not-found', `There is no violation ${id}.`)
  const { victimsShown } = await import('../query/judged.ts')
  const query = { prefix: [found.key, id], limit: victimsShown }
  const rows = await opened.service.scan('hence.victims' as never, query as never)
  return { ...found, victims: rows.map(({ value }) => value as Victim) }
}

function lineOf({ id, constraint, key, state, excess, at, deadline, counts }: KeyedViolation): string {
  const victims = victimCount(counts)
  const colour = { open: paint.bad, compensating: paint.warn, resolved: paint.good }[state]
  const what =
    state === 'open'
      ? `${excess} in excess${deadline === null ? '' : `, the policy decides at ${new Date(deadline).toISOString()}`}`
      : counted(victims, 'victim')
  return (
    `${colour(state)} ${paint.strong(constraint)} at ${JSON.stringify(key)}: ${what} ` +
    `${paint.faint(`(${id}, ${new Date(at).toISOString()})`)}`
  )
}

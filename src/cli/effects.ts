import { Option } from 'commander'
import { v7 } from 'uuid'
import type { EffectState } from '../effect/outbox.ts'
import { embeddedOptions, type ServiceOptions, serverOptions } from './address.ts'
import { command, jsonOption, runs, wholeNumber } from './command.ts'
import { withService } from './service.ts'
import { exitCode } from './terminal/exit-code.ts'
import { note, paint, print } from './terminal/output.ts'

/** `hence effects`: shows effects and their delivery, and delivers dead ones again. */
export function effectsCommand() {
  return command('effects', 'show effects, and deliver again those that were given up', [
    'hence effects list --state dead',
    'hence effects show 5f1e4c0a-…',
    'hence effects redrive --type email --dry-run',
  ])
    .addCommand(listCommand())
    .addCommand(showCommand())
    .addCommand(redriveCommand())
}

interface ListOptions extends ServiceOptions {
  readonly state: EffectState['state']
  readonly type?: string
  readonly limit: number
}

function listCommand() {
  const list = command('list', 'list effects, oldest first', [
    'hence effects list',
    'hence effects list --state dead --type email --json',
  ])
    .addOption(
      new Option('--state <state>', 'only effects in this state')
        .choices(['pending', 'done', 'dead'])
        .default('pending'),
    )
    .option('--type <type>', 'only effects of this type')
    .option('--limit <number>', 'list at most this many, up to 1,000', wholeNumber, 100)
  return embeddedOptions(serverOptions(list))
    .addOption(jsonOption())
    .action(
      runs(async (options: ListOptions, _command: unknown) => {
        const { state, type, limit } = options
        const query = { state, limit, ...(type !== undefined && { type }) }
        const found = await withService(options, (opened) => opened.effects(query))
        for (const each of found) await print(options.json ? JSON.stringify(each) : lineOf(each))
        if (found.length > 0) return exitCode.ok
        note(`There are no ${state} effects${type === undefined ? '' : ` of type "${type}"`}.`)
        return exitCode.nothingFound
      }),
    )
}

function showCommand() {
  const show = command('show', 'show an effect with its tries', ['hence effects show 5f1e4c0a-…']).argument(
    '<id>',
    'the id of the effect',
  )
  return embeddedOptions(serverOptions(show))
    .addOption(jsonOption())
    .action(
      runs(async (id: string, options: ServiceOptions, _command: unknown) => {
        const found = await withService(options, (opened) => opened.effect(id))
        if (found === undefined) {
          note(`There is no effect ${id}, or it was done too long ago.`)
          return exitCode.nothingFound
        }
        await print(options.json ? JSON.stringify(found) : lineOf(found))
        if (options.json) return exitCode.ok
        const { requestId, principal, attempts, result, redrives } = found
        await print(`  follows from request ${requestId}${principal === '' ? '' : ` of ${principal}`}`)
        if (result !== undefined && result !== null) await print(`  result ${JSON.stringify(result)}`)
        if (redrives !== undefined)
          await print(`  redriven by an operator ${redrives} ${redrives === 1 ? 'time' : 'times'}`)
        if (attempts !== undefined && attempts.tries > 0) {
          await print(
            `  tried ${attempts.tries} times by this process; last error: ${attempts.error}; next try at ` +
              `${new Date(attempts.nextAt).toISOString()}`,
          )
        }
        return exitCode.ok
      }),
    )
}

interface RedriveOptions extends ServiceOptions {
  readonly type?: string
  readonly reason?: string
  readonly dryRun?: true
  readonly mayRepeat?: true
}

function redriveCommand() {
  const redrive = command('redrive', 'deliver effects again that were given up: these, or all of a type', [
    'hence effects redrive --type email --dry-run                           only prints which',
    'hence effects redrive --type email --reason "the mail server is back"',
    'hence effects redrive 5f1e4c0a-… --reason "address corrected"',
  ])
    .argument('[ids...]', 'the ids of effects')
    .option('--type <type>', 'all effects of this type that were given up, 1,000 at a time')
    .option('--reason <text>', 'the reason, which is kept in the log')
    .option('--dry-run', 'only print which')
    .option(
      '--may-repeat',
      'also effects given up more than 24 hours ago: their receiver may act a second time',
    )
  return embeddedOptions(serverOptions(redrive))
    .addOption(jsonOption())
    .action(
      runs(
        async (ids: readonly string[], options: RedriveOptions, command: { error(text: string): never }) => {
          const { type, reason, dryRun, mayRepeat, json } = options
          if ((ids.length === 0) === (type === undefined))
            command.error('error: give either ids of effects, or --type.')
          if (!dryRun && !reason)
            command.error('error: --reason is missing: give the reason for delivering them again.')
          return withService(options, async (opened) => {
            const named = await Promise.all(ids.map((id) => opened.effect(id)))
            const found =
              type === undefined
                ? named.filter((each) => each !== undefined)
                : await opened.effects({ state: 'dead', type, limit: 1_000 })
            for (const [i, each] of named.entries())
              if (each === undefined) note(`There is no effect ${ids[i]}.`)
            let refused = named.length - named.filter((each) => each !== undefined).length
            for (const each of found) {
              const { id, key } = each
              if (dryRun) {
                await print(json ? JSON.stringify(each) : lineOf(each))
                continue
              }
              const input = { effect: id, key, reason, ...(mayRepeat && { mayRepeat }) }
              const reply = await opened.service.submit('hence:redrive' as never, input as never, {
                requestId: v7(),
              })
              const { status, reason: why } = reply as { status: string; reason?: string }
              if (status !== 'accepted') refused++
              const result =
                status === 'accepted' ? paint.good('redriven') : `${paint.warn(status)} ${why ?? ''}`
              await print(json ? JSON.stringify({ effect: id, ...reply }) : `${id} ${result}`)
            }
            if (found.length === 0) note('There are no dead effects to redrive.')
            if (refused > 0) return exitCode.notAccepted
            return found.length > 0 ? exitCode.ok : exitCode.nothingFound
          })
        },
      ),
    )
}

function lineOf(effect: EffectState): string {
  const { id, type, input, state, at, tries, error } = effect
  const colour = { pending: paint.warn, done: paint.good, dead: paint.bad }[state]
  const ended = tries === undefined ? '' : ` after ${tries} ${tries === 1 ? 'try' : 'tries'}`
  const why = error === undefined ? '' : `: ${error}`
  return (
    `${colour(state)}${ended} ${paint.strong(type)} ${JSON.stringify(input)}${why} ` +
    `${paint.faint(`${id}, ${new Date(at).toISOString()}`)}`
  )
}

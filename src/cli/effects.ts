import { setTimeout as pause } from 'node:timers/promises'
import { InvalidArgumentError, Option } from 'commander'
import type { EffectState } from '../effect/outbox.ts'
import { counted } from '../plain-text.ts'
import { command, group, type ServiceOptions, wholeNumber } from './command.ts'
import { withService } from './service.ts'
import { exitCode, exitCodeOf } from './terminal/exit-code.ts'
import { note, paint, printError, printResult } from './terminal/output.ts'
import { Progress } from './terminal/progress.ts'

export function effectsCommand() {
  return group('effects', 'show effects, and deliver dead ones again', [
    listCommand(),
    showCommand(),
    redriveCommand(),
  ])
}

interface ListOptions extends ServiceOptions {
  readonly state: EffectState['state']
  readonly type?: string
  readonly limit: number
}

function listCommand() {
  return command('list', 'list effects, oldest first', [
    'hence effects list',
    'hence effects list --state dead --type email --json',
  ])
    .addOption(
      new Option('--state <state>', 'only effects in this state')
        .choices(['pending', 'done', 'dead'])
        .default('pending'),
    )
    .option('--type <type>', 'only effects of this type')
    .option('--limit <number>', 'list at most this many', wholeNumber, 100)
    .engine()
    .runs(async (options: ListOptions) => {
      const { state, type, limit } = options
      const query = { state, ...(type !== undefined && { type }) }
      let count = 0
      await withService(options, async (opened) => {
        for await (const each of opened.effects(query)) {
          await printResult(options.json, each, lineOf(each))
          if (++count === limit) break
        }
      })
      if (count > 0) return exitCode.ok
      note(`There are no ${state} effects${type === undefined ? '' : ` of type "${type}"`}.`)
      return exitCode.nothingFound
    })
}

function showCommand() {
  return command('show', 'show an effect with its tries', ['hence effects show 5f1e4c0a-…'])
    .argument('<id>', 'the id of the effect')
    .engine()
    .runs(async (id: string, options: ServiceOptions) => {
      const found = await withService(options, (opened) => opened.effect(id))
      await printResult(options.json, found)
    })
}

interface RedriveOptions extends ServiceOptions {
  readonly type?: string
  readonly reason?: string
  readonly dryRun?: true
  readonly mayRepeat?: true
  readonly perSecond: number
  readonly perKey?: number
}

function redriveCommand() {
  return command('redrive', 'deliver dead effects again: these, or all of a type', [
    'hence effects redrive --type email --dry-run                           only prints which',
    'hence effects redrive --type email --reason "the mail server is back"',
    'hence effects redrive 5f1e4c0a-… --reason "address corrected"',
  ])
    .argument('[ids...]', 'the ids of effects')
    .option('--type <type>', 'all dead effects of this type')
    .option('--per-second <number>', 'redrive at most this many a second', wholeNumber, 100)
    .option('--per-key <number>', 'redrive at most this many of each key; the others stay', wholeNumber)
    .option('--reason <text>', 'the reason, which is kept in the log')
    .option('--dry-run', 'only print which')
    .option(
      '--may-repeat',
      'also effects asked for more than 24 hours ago: their receiver may act a second time',
    )
    .engine()
    .runs(async (ids: readonly string[], options: RedriveOptions) => {
      const { type, reason, dryRun, mayRepeat, perSecond, perKey = Number.POSITIVE_INFINITY, json } = options
      if ((ids.length === 0) === (type === undefined)) {
        throw new InvalidArgumentError('Give either ids of effects, or --type.')
      }
      if (!dryRun && !reason) {
        throw new InvalidArgumentError('--reason is missing: give the reason for delivering them again.')
      }
      const { v7 } = await import('uuid')
      return withService(options, async (opened) => {
        const line = new Progress()
        const ofKey = new Map<string, number>()
        const counts = { read: 0, redriven: 0, refused: 0, left: 0 }
        const named = async function* () {
          for (const id of ids) {
            try {
              yield await opened.effect(id)
            } catch (error) {
              if (exitCodeOf(error) !== exitCode.nothingFound) throw error
              printError(error, json)
              counts.refused++
            }
          }
        }
        const startedAt = performance.now()
        for await (const each of type === undefined ? named() : opened.effects({ state: 'dead', type })) {
          const { id, key } = each
          counts.read++
          const nth = (ofKey.get(key) ?? 0) + 1
          ofKey.set(key, nth)
          if (nth > perKey) counts.left++
          else if (dryRun) await printResult(json, each, lineOf(each))
          if (nth > perKey || dryRun) continue
          const sent = counts.redriven + counts.refused
          await pause(startedAt + (sent * 1_000) / perSecond - performance.now())
          const input = { effect: id, key, reason, ...(mayRepeat && { mayRepeat }) }
          const { reply, isAccepted, text } = await opened.decide('hence:redrive', input, v7())
          counts[isAccepted ? 'redriven' : 'refused']++
          line.end()
          const shown = `${id} ${isAccepted ? paint.good('redriven') : text}`
          await printResult(json, { effect: id, ...reply }, shown)
          line.show(() => `${counts.redriven} redriven, ${counts.refused} refused`)
        }
        line.end()
        const { read, redriven, refused, left } = counts
        if (read + refused === 0) note('There are no dead effects to redrive.')
        if (type !== undefined && redriven + refused > 0)
          note(`${redriven} redriven, ${refused} refused${left > 0 ? `, ${left} left by --per-key` : ''}.`)
        if (refused > 0) return exitCode.notAccepted
        return read > 0 ? exitCode.ok : exitCode.nothingFound
      })
    })
}

function lineOf(effect: EffectState): string {
  const { id, type, input, state, at, tries, error } = effect
  const colour = { pending: paint.warn, done: paint.good, dead: paint.bad }[state]
  const ended = tries === undefined ? '' : ` after ${counted(tries, 'try', 'tries')}`
  const why = error === undefined ? '' : `: ${error}`
  return (
    `${colour(state)}${ended} ${paint.strong(type)} ${JSON.stringify(input)}${why} ` +
    `${paint.faint(`(${id}, ${new Date(at).toISOString()})`)}`
  )
}

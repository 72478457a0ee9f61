import type { Story, StoryChange } from '../derivation/story.ts'
import { embeddedOptions, type ServiceOptions, serverOptions } from './address.ts'
import { command, jsonOption, runs } from './command.ts'
import { exitCode } from './exit-code.ts'
import { note, paint, print } from './output.ts'
import { withService } from './service.ts'

/** `hence explain`: the whole story of a request. */
export function explainCommand() {
  const explain = command(
    'explain',
    'tell the whole story of a request: what it changed, and what followed',
    ['hence explain 0197f5a0-7c2e-7d3a-8b1e-2f4c6a8e0d11', 'hence explain o1 --principal ada --data data'],
  )
    .argument('<request-id>', 'the id that the request was sent with')
    .option('--principal <name>', 'who sent it; default: who asks')
  return embeddedOptions(serverOptions(explain))
    .addOption(jsonOption())
    .action(
      runs(async (requestId: string, options: ServiceOptions & { principal?: string }, _command: unknown) => {
        const story = await withService(options, (opened) => opened.story(requestId, options.principal))
        if (story === undefined) {
          note(`There is no request ${requestId} of this sender, or its id is past the window.`)
          return exitCode.nothingFound
        }
        if (options.json) await print(JSON.stringify(story))
        else for (const line of tree(story)) await print(line)
        return exitCode.ok
      }),
    )
}

interface Branch {
  readonly text: string
  readonly branches: readonly Branch[]
}

/** The story as a tree: a request, and under it what each record of it did. */
function tree(story: Story): string[] {
  const { requestId, principal, type, input, token, at, outcome, steps } = story
  const by = principal === '' ? '' : ` by ${principal}`
  const told =
    outcome === undefined
      ? 'not decided yet'
      : outcome.status === 'accepted'
        ? `${paint.good('accepted')} ${valueText(outcome.value)}`
        : outcome.status === 'rejected'
          ? `${paint.warn('rejected')} ${outcome.reason} ${valueText(outcome.details)}`
          : `${paint.bad('failed')} ${outcome.code}: ${outcome.message}`
  const root: Branch = {
    text: `${paint.strong(type)} ${JSON.stringify(input)} ${paint.faint(`${requestId}${by}, ${new Date(at).toISOString()}, at ${token}`)}`,
    branches: [
      { text: told.trimEnd(), branches: [] },
      ...steps.map((step) => ({
        text: `${step.kind} ${paint.strong(step.type)} under ${JSON.stringify(step.key)} ${paint.faint(`at ${step.token}`)}`,
        branches: [
          ...step.changes.map((change) => ({ text: changeText(change), branches: [] })),
          ...step.events.map((event) => ({
            text: `told ${event.key === undefined ? 'another key' : JSON.stringify(event.key)}: ${event.type} ${valueText(event.data)}`.trimEnd(),
            branches: [],
          })),
          ...step.effects.map(({ id, type, input, state }) => ({
            text: `asked for ${paint.strong(type)} ${valueText(input)}, ${state} ${paint.faint(id)}`,
            branches: [],
          })),
          ...(step.failure === undefined
            ? []
            : [{ text: paint.bad(`failed, ${step.failure.code}: ${step.failure.message}`), branches: [] }]),
        ],
      })),
    ],
  }
  return [root.text, ...drawn(root.branches)]
}

function drawn(branches: readonly Branch[]): string[] {
  return branches.flatMap(({ text, branches: below }, i) => {
    const last = i === branches.length - 1
    return [`${last ? '└─' : '├─'} ${text}`, ...drawn(below).map((line) => `${last ? '  ' : '│ '} ${line}`)]
  })
}

/** One changed row on one line: what it was, what it is. */
export function changeText({ table, key, before, after }: StoryChange): string {
  const row = `${table} ${JSON.stringify(key)}`
  if (before === undefined) return `${paint.good('+')} ${row} ${JSON.stringify(after)}`
  if (after === undefined) return `${paint.bad('-')} ${row} ${JSON.stringify(before)}`
  return `${paint.warn('~')} ${row} ${JSON.stringify(before)} → ${JSON.stringify(after)}`
}

function valueText(value: unknown): string {
  return value === undefined || value === null ? '' : JSON.stringify(value)
}

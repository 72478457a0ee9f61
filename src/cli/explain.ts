import { failedKey } from '../failure.ts'
import type { Story, StoryChange, StoryCorrection } from '../query/story.ts'
import type { ServiceOptions } from './command.ts'
import { command } from './command.ts'
import { withService } from './service.ts'
import { outcomeText, valueText } from './terminal/outcome-text.ts'
import { paint, printResult } from './terminal/output.ts'

export function explainCommand() {
  return command('explain', 'show the whole story of a request: its outcome, and all that followed from it', [
    'hence explain 0197f5a0-7c2e-7d3a-8b1e-2f4c6a8e0d11',
    'hence explain o1 --principal ada --data data',
  ])
    .argument('<request-id>', 'the id that the request was sent with')
    .option('--principal <name>', 'who sent the request (default: the caller)')
    .engine()
    .json()
    .runs(async (requestId: string, options: ServiceOptions & { principal?: string }) => {
      const story = await withService(options, (opened) => opened.story(requestId, options.principal))
      await printResult(options.json, story, tree(story))
    })
}

interface Branch {
  readonly text: string
  readonly branches: readonly Branch[]
}

/** The story as a tree: the request, and below it each of its records with what that did. */
function tree(story: Story): string[] {
  const { requestId, principal, type, input, token, at, outcome, corrected, inReplyTo, replies, steps } =
    story
  const by = principal === '' ? '' : ` by ${principal}`
  const root: Branch = {
    text:
      `${paint.strong(type)} ${JSON.stringify(input)} ` +
      `${paint.faint(`${requestId}${by}, ${new Date(at).toISOString()}, at ${token}`)}`,
    branches: [
      { text: outcomeText(outcome), branches: [] },
      ...(corrected === undefined
        ? []
        : [{ text: `${paint.warn('corrected:')} it would be ${outcomeText(corrected)}`, branches: [] }]),
      ...(inReplyTo === undefined ? [] : [{ text: `in reply to ${inReplyTo}`, branches: [] }]),
      ...steps.map((step) => ({
        text:
          `${step.kind} ${paint.strong(step.type)} under ${step.key === undefined ? failedKey(undefined) : JSON.stringify(step.key)} ` +
          `${paint.faint(`at ${step.token}`)}`,
        branches: [
          ...(step.correction === undefined ? [] : [correctionBranch(step.correction)]),
          ...step.changes.map((change) => ({ text: changeText(change), branches: [] })),
          ...step.events.map((event) => ({
            text: `emitted ${event.type} to ${event.key === undefined ? 'another key' : JSON.stringify(event.key)} ${valueText(event.data)}`.trimEnd(),
            branches: [],
          })),
          ...step.effects.map(({ id, type, input, state }) => ({
            text: `effect ${paint.strong(type)} ${valueText(input)}, ${state} ${paint.faint(id)}`,
            branches: [],
          })),
          ...(step.failure === undefined
            ? []
            : [{ text: paint.bad(`failed, ${step.failure.code}: ${step.failure.message}`), branches: [] }]),
        ],
      })),
      ...replies.map(({ inReplyTo: id, type, requestId: reply, token: place }) => ({
        text: `reply ${paint.strong(type)} ${reply} to ${id} ${paint.faint(`at ${place}`)}`,
        branches: [],
      })),
    ],
  }
  return [root.text, ...drawn(root.branches)]
}

/** The correction, and below it who approved it, when, and on which diff. */
function correctionBranch(correction: StoryCorrection): Branch {
  const { number, at, generation, version, principal, requestId, diff, note } = correction.promotion
  const by = principal === '' ? '' : ` by ${principal}`
  const approved =
    `promotion ${number}, of generation ${generation} with version ${version.slice(0, 12)}, approved${by} ` +
    `(${requestId}, ${new Date(at).toISOString()}) on diff ${diff.slice(0, 12)}${note === undefined ? '' : `: ${note}`}`
  return { text: correctedText(correction), branches: [{ text: approved, branches: [] }] }
}

function correctedText(correction: StoryCorrection): string {
  if (correction.kind === 'outcome') {
    const [before, after] = [outcomeText(correction.before), outcomeText(correction.after)]
    return before === after ? `still ${after}, but not the outcome that was sent` : `${before} → ${after}`
  }
  const { effect, before, after } = correction
  const now = after === undefined ? 'nothing' : valueText(after.input)
  return `effect ${valueText(before.input)}, ${before.state} → ${now} ${paint.faint(effect)}`
}

function drawn(branches: readonly Branch[]): string[] {
  return branches.flatMap(({ text, branches: below }, i) => {
    const last = i === branches.length - 1
    return [`${last ? '└─' : '├─'} ${text}`, ...drawn(below).map((line) => `${last ? '  ' : '│ '} ${line}`)]
  })
}

/** One changed row on one line: before and after. */
export function changeText({ table, key, before, after }: StoryChange): string {
  const row = `${table} ${JSON.stringify(key)}`
  if (before === undefined) return `${paint.good('+')} ${row} ${JSON.stringify(after)}`
  if (after === undefined) return `${paint.bad('-')} ${row} ${JSON.stringify(before)}`
  return `${paint.warn('~')} ${row} ${JSON.stringify(before)} → ${JSON.stringify(after)}`
}

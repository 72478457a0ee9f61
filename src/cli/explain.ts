import { failedKey } from '../failure.ts'
import type { Story, StoryChange, StoryCorrection, StoryReply } from '../query/story.ts'
import { command, type ServiceOptions } from './command.ts'
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
    .runs(async (requestId: string, options: ServiceOptions & { principal?: string }) => {
      const story = await withService(options, (opened) => opened.story(requestId, options.principal))
      await printResult(options.json, story, tree(story))
    })
}

type Branch = string | { readonly text: string; readonly branches: readonly Branch[] }

/** The story as a tree: the request, and below it each of its records with what that did. */
function tree(story: Story): string[] {
  const { requestId, principal, type, input, token, at, outcome, corrected, inReplyTo } = story
  const by = principal === '' ? '' : ` by ${principal}`
  const root =
    `${paint.strong(type)} ${JSON.stringify(input)} ` +
    `${paint.faint(`${requestId}${by}, ${new Date(at).toISOString()}, at ${token}`)}`
  const branches: Branch[] = [
    outcomeText(outcome),
    ...(corrected ? [`${paint.warn('corrected:')} it would be ${outcomeText(corrected)}`] : []),
    ...(inReplyTo === undefined ? [] : [`in reply to ${inReplyTo}`]),
    ...story.steps.map(stepBranch),
    ...story.replies.map(replyText),
  ]
  return [root, ...drawn(branches)]
}

const replyText = ({ inReplyTo, type, requestId, token }: StoryReply) =>
  `reply ${paint.strong(type)} ${requestId} to ${inReplyTo} ${paint.faint(`at ${token}`)}`

function stepBranch({ kind, type, key, token, ...step }: Story['steps'][number]): Branch {
  const under = key === undefined ? failedKey(undefined) : JSON.stringify(key)
  return {
    text: `${kind} ${paint.strong(type)} under ${under} ${paint.faint(`at ${token}`)}`,
    branches: [
      ...(step.correction ? [correctionBranch(step.correction)] : []),
      ...step.changes.map(changeText),
      ...step.events.map(({ type, key, data }) => {
        const to = key === undefined ? 'another key' : JSON.stringify(key)
        return `emitted ${type} to ${to} ${valueText(data)}`.trimEnd()
      }),
      ...step.effects.map(
        ({ id, type, input, state }) =>
          `effect ${paint.strong(type)} ${valueText(input)}, ${state} ${paint.faint(`(${id})`)}`,
      ),
      ...(step.failure ? [paint.bad(`failed, ${step.failure.code}: ${step.failure.message}`)] : []),
    ],
  }
}

/** The correction, and below it who approved it, when, and on which diff. */
function correctionBranch(correction: StoryCorrection): Branch {
  const { number, at, generation, version, principal, requestId, diff, note } = correction.promotion
  const by = principal === '' ? '' : ` by ${principal}`
  const approved =
    `promotion ${number}, of generation ${generation} with version ${version.slice(0, 12)}, approved${by} ` +
    `(${requestId}, ${new Date(at).toISOString()}) on diff ${diff.slice(0, 12)}${note === undefined ? '' : `: ${note}`}`
  return { text: correctedText(correction), branches: [approved] }
}

function correctedText(correction: StoryCorrection): string {
  if (correction.kind === 'outcome') {
    const [before, after] = [outcomeText(correction.before), outcomeText(correction.after)]
    return before === after ? `still ${after}, but not the outcome that was sent` : `${before} → ${after}`
  }
  const { effect, before, after } = correction
  const now = after === undefined ? 'nothing' : valueText(after.input)
  return `effect ${valueText(before.input)}, ${before.state} → ${now} ${paint.faint(`(${effect})`)}`
}

function drawn(branches: readonly Branch[]): string[] {
  return branches.flatMap((branch, i) => {
    const { text, branches: below } = typeof branch === 'string' ? { text: branch, branches: [] } : branch
    const last = i === branches.length - 1
    return [`${last ? '└─' : '├─'} ${text}`, ...drawn(below).map((line) => `${last ? '  ' : '│ '} ${line}`)]
  })
}

export function changeText({ table, key, before, after }: StoryChange): string {
  const row = `${table} ${JSON.stringify(key)}`
  if (before === undefined) return `${paint.good('+')} ${row} ${JSON.stringify(after)}`
  if (after === undefined) return `${paint.bad('-')} ${row} ${JSON.stringify(before)}`
  return `${paint.warn('~')} ${row} ${JSON.stringify(before)} → ${JSON.stringify(after)}`
}

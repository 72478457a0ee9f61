import { text } from 'node:stream/consumers'
import { InvalidArgumentError } from 'commander'
import type { Outcome, Reply } from '../app/index.ts'
import { command, jsonValue, type ServiceOptions } from './command.ts'
import { withService } from './service.ts'
import { exitCode } from './terminal/exit-code.ts'
import { outcomeText } from './terminal/outcome-text.ts'
import { newRequestId, paint, printResult } from './terminal/output.ts'

export function submitCommand() {
  return command('submit', 'send a request, and print its outcome', [
    `hence submit place-order '{"order":"o1","product":"mug","quantity":1,"customer":"ada"}'`,
    'hence submit place-order - < order.json',
    'hence submit place-order --id 0197f5a0-7c2e-7d3a-8b1e-2f4c6a8e0d11 - < order.json     sends it again',
    `hence submit place-order --data data '{…}'                                            without a server`,
  ])
    .argument('<type>', 'the type of the request')
    .argument('<input>', 'the input as JSON; - reads it from standard input')
    .option(
      '--id <id>',
      'the request id, to send a request again (default: a new id, printed before sending)',
    )
    .option('--in-reply-to <id>', 'the effect, violation or request that it replies to')
    .engine()
    .runs(async (type: string, inputText: string, options: SubmitCommandOptions) => {
      const input = jsonValue(inputText === '-' ? await text(process.stdin) : inputText)
      const { id, inReplyTo } = options
      if (id === '') throw new InvalidArgumentError('--id must not be empty.')
      const requestId = id ?? (await newRequestId(options.json))
      const reply = await withService(options, ({ service }) =>
        service.submit(type as never, input as never, { requestId, inReplyTo }),
      )
      await printResult(options.json, reply, describe(reply))
      return reply.status === 'accepted' ? exitCode.ok : exitCode.notAccepted
    })
}

interface SubmitCommandOptions extends ServiceOptions {
  readonly id?: string
  readonly inReplyTo?: string
}

function describe(reply: Reply): string[] {
  const { token, replayed, corrected } = reply
  const first = `${outcomeText(reply as Outcome)} ${paint.faint(`at ${token}${replayed ? ', decided before' : ''}`)}`
  return [first, ...(corrected ? [`${paint.warn('corrected:')} it would be ${outcomeText(corrected)}`] : [])]
}

import { setTimeout as pause } from 'node:timers/promises'
import type { Outcome } from '../app/index.ts'
import { changeError, HenceError, shown } from '../failure.ts'
import { parseStrict, textOf } from '../json.ts'
import type { Access } from './access.ts'
import { type Problem, problemOf, problemOfOutcome, unforeseen } from './problem.ts'
import type { Serving } from './serving.ts'
import { checkMaySend } from './submit.ts'

type LineAnswer = { readonly requestId: string | undefined } & (
  | {
      readonly status: 'accepted'
      readonly value: unknown
      readonly token: string
      readonly replayed: boolean
      readonly corrected: Outcome | undefined
    }
  | { readonly status: 'problem'; readonly problem: Problem }
)

/** Submits the request of a line; waits for an engine that is overloaded. */
export async function decide(
  { engine, closing }: Serving,
  access: Access,
  line: Uint8Array,
  before: Promise<void> | undefined,
): Promise<LineAnswer> {
  let requestId: string | undefined
  try {
    const request = parseStrict(textOf(line))
    checkLine(request)
    requestId = request.requestId
    const { type, input, inReplyTo } = request
    checkMaySend(access.caller, type)
    const { principal } = access.caller
    for (;;) {
      try {
        const reply = await engine.submit(type as never, input as never, { requestId, principal, inReplyTo })
        if (reply.status !== 'accepted') {
          return { requestId: reply.requestId, status: 'problem', problem: problemOfOutcome(reply) }
        }
        const { status, value, token, replayed, corrected } = reply
        return { requestId: reply.requestId, status, value, token, replayed, corrected }
      } catch (error) {
        if (!(error instanceof HenceError && error.code === 'overloaded') || closing.aborted) throw error
        // Once the line before is decided there is room again; if there is none, other callers fill the
        // engine.
        if (before === undefined) await pause(10)
        await before
        before = undefined
        checkMaySend(await access.renew(), type)
      }
    }
  } catch (error) {
    return problemLine(requestId, error)
  }
}

export function problemLine(requestId: string | undefined, error: unknown): LineAnswer {
  return {
    requestId: requestId && shown(requestId, 255),
    status: 'problem',
    problem: problemOf(error instanceof HenceError ? error : unforeseen()),
  }
}

interface Line {
  readonly requestId: string
  readonly type: string
  readonly input: unknown
  readonly inReplyTo?: string
}

function checkLine(value: unknown): asserts value is Line {
  const { requestId, type, inReplyTo, ...rest } = (value ?? {}) as Record<string, unknown>
  const names = Object.keys(rest)
  const fits =
    typeof requestId === 'string' &&
    typeof type === 'string' &&
    (inReplyTo === undefined || typeof inReplyTo === 'string') &&
    names.length === 1 &&
    names[0] === 'input'
  if (fits) return
  throw changeError(
    'line-invalid',
    'A line of a batch must be an object with `requestId` and `type`, both text, and `input`; it may have ' +
      '`inReplyTo`, an id, and no other members.',
  )
}

import type { StateCopy } from '../engine/state-copy.ts'
import type { Answer } from './answer.ts'
import * as forms from './answer-form.ts'
import { closingSoon } from './batch.ts'
import { type Arrival, type Route, route } from './route.ts'
import type { Serving } from './serving.ts'
import { streamAnswer } from './text-stream.ts'

export function stateRoute(serving: Serving): Route {
  return route('GET /state', 'admin', 'state', 'A copy of the derived state, for a new standby', {
    answers: { 200: forms.state },
    standby: true,
    isLong: true,
    problems: [404],
    handle: (arrival) => state(serving, arrival),
  })
}

async function state({ engine, closing, limits }: Serving, { access }: Arrival): Promise<Answer> {
  const copy = await engine.copyState()
  const parts = () => access.guard(untilClosing(copy, closing))
  const headers = { 'content-length': `${copy.bytes}`, 'hence-generation': `${copy.generation}` }
  return streamAnswer(limits, 'application/octet-stream', parts, () => copy.drop(), headers)
}

/** A new standby must not delay the end of this process: it asks the next one. */
async function* untilClosing(copy: StateCopy, closing: AbortSignal): AsyncGenerator<Uint8Array> {
  for await (const part of copy.parts()) {
    if (closing.aborted) throw closingSoon()
    yield part
  }
}

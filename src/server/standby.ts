import type { App } from '../app/index.ts'
import type { Standby } from '../engine/engine.ts'
import type { Answer } from './answer.ts'
import type { Header, Route } from './route.ts'

export const ageMax: Header = {
  name: 'Hence-Age-Max',
  description:
    'How old the answer of a standby may be, in milliseconds; with 0 a standby refuses. Default: any age.',
  schema: { type: 'integer', minimum: 0 },
}

/**
 * Answers as a standby does: with the age of the answer, and nothing but reads.
 * @throws HenceError `engine-standby` (retry)
 */
export async function byStandby(
  standby: Standby<App>,
  route: Route,
  { headers: asked }: Request,
  handle: () => Promise<Answer>,
): Promise<Answer> {
  if (!route.standby) throw standby.refusal()
  if (route.permission === 'none') return handle()
  const { ageMs } = standby
  const begun = performance.now()
  if (ageMs > Number(asked.get(ageMax.name) ?? Number.POSITIVE_INFINITY)) throw standby.refusal()
  const answer = await handle()
  const age = Math.ceil(ageMs + performance.now() - begun)
  return { ...answer, headers: { ...answer.headers, 'hence-age': `${age}` } }
}

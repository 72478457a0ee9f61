import type { App } from '../app/index.ts'
import type { Engine, Standby } from '../engine/engine.ts'
import { engineUnsure } from '../engine/read-after.ts'
import type { Answer } from './answer.ts'
import type { AskedRequest } from './asked.ts'
import { count } from './json-schema.ts'
import type { Header, Route } from './route.ts'

export const ageMax: Header = {
  name: 'Hence-Age-Max',
  description:
    'How old the answer of a standby may be, in milliseconds; with 0 a standby refuses. Default: any age.',
  schema: count,
}

/**
 * Answers a read with its age, unless it is of the active process and shows all that was acknowledged. A
 * standby answers nothing else.
 */
export async function byAge(
  engine: Pick<Engine<App>, 'ageMs'>,
  standby: Standby<App> | undefined,
  route: Route,
  { headers: asked }: AskedRequest,
  handle: () => Promise<Answer>,
): Promise<Answer> {
  if (!route.standby && standby) throw standby.refusal()
  if (!route.standby || route.permission === 'none') return handle()
  const { ageMs } = engine
  const begun = performance.now()
  if (ageMs > Number(asked.get(ageMax.name) ?? Number.POSITIVE_INFINITY))
    throw standby?.refusal() ?? engineUnsure(ageMs)
  const answer = await handle()
  if (ageMs === 0 && !standby) return answer
  const age = Math.ceil(ageMs + performance.now() - begun)
  return { ...answer, headers: { ...answer.headers, 'hence-age': `${age}` } }
}

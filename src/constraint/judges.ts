import { claim, confirm, exchange, release, serveNext, unconfirmed } from './judge.ts'
import { choose, compensated, deadline, reviewDeclared } from './review.ts'
import type { Messages, Turn } from './turn.ts'

/** The messages to a judged key, and the functions of its judge that derive them. */
export const judges: { readonly [T in keyof Messages]?: (turn: Turn, data: Messages[T]) => void } = {
  'hence:claim': claim,
  'hence:exchange': exchange,
  'hence:release': release,
  'hence:confirm': confirm,
  'hence:compensated': compensated,
  'hence:deadline': deadline,
  'hence:unconfirmed': unconfirmed,
  'hence:serve': serveNext,
  'hence:choose': choose,
  'hence:declared': reviewDeclared,
}

/** Whether a system message is derived by the judge of its key. */
export const isOfJudge = (type: string): boolean => Object.hasOwn(judges, type)

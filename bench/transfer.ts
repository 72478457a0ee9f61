import { accountCount, newId } from './payment.ts'

/** A transfer as TigerBeetle's benchmark makes them: 10,000 accounts, random ones, or always one that pays. */
export interface Transfer {
  readonly requestId: string
  readonly from: number
  readonly to: number
  readonly cents: number
}

/**
 * @param hot whether account 0 pays for each, as with `tigerbeetle benchmark --account-count-hot=1`; the
 *   others are paid
 */
export function transfers(count: number, hot: boolean): Transfer[] {
  const random = (from: number) => from + Math.floor(Math.random() * (accountCount - from))
  return Array.from({ length: count }, () => {
    const from = hot ? 0 : random(0)
    const to = random(1)
    return { requestId: newId(), from, to: to === from ? (to + 1) % accountCount : to, cents: random(1) }
  })
}

import { randomUUID } from 'node:crypto'
import { encodeRequest } from '../src/log/record.ts'

/** A request of the app: its id and about 200 bytes of JSON. */
export interface Payment {
  readonly requestId: string
  /** The numbers of the account and the category, for the bare loop, which keeps its rows in arrays. */
  readonly account: number
  readonly category: number
  readonly input: {
    readonly account: string
    readonly to: string
    readonly cents: number
    readonly currency: string
    readonly category: string
    readonly reference: string
    readonly note: string
  }
}

export const accountCount = 10_000
const categoryNames = [
  'rent',
  'food',
  'travel',
  'books',
  'music',
  'sport',
  'gifts',
  'health',
  'tools',
  'other',
]
export const categoryCount = categoryNames.length

/** Makes the payment with this number. Payments are spread over all accounts. */
export function payment(number: number, now?: number): Payment {
  // A step that is coprime to the number of accounts visits all of them, and consecutive payments are far
  // apart.
  const account = (number * 7_919) % accountCount
  const category = Math.floor(number / accountCount + number) % categoryCount
  return {
    requestId: newId(now),
    account,
    category,
    input: {
      account: `account-${String(account).padStart(6, '0')}`,
      to: 'GB29NWBK60161331926819',
      cents: 100 + (number % 10_000),
      currency: 'EUR',
      category: categoryNames[category]!,
      reference: `invoice ${String(number).padStart(10, '0')}`,
      note: 'Thank you for your order, it was a pleasure as always!',
    },
  }
}

export function payments(from: number, count: number): Payment[] {
  return Array.from({ length: count }, (_, i) => payment(from + i))
}

/** The bytes that the engine writes to its log for this payment. */
export function bytesOf({ requestId, input }: Payment): Buffer {
  return encodeRequest(`7${requestId}\0`, 'pay', JSON.stringify(input), undefined, 1)
}

/** A UUID of version 7. */
export function newId(now = Date.now()): string {
  const time = now.toString(16).padStart(12, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}-7${randomUUID().slice(15)}`
}

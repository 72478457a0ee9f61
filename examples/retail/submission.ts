import type { RequestInput, RequestName } from 'hence'
import type { Shop } from './shop.ts'

/** Requests that carry an invoice number. */
type Numbered = Exclude<RequestName<Shop>, 'count-stock'>

/** A request of the shop, ready to be sent as often as necessary. */
export type Submission = {
  [Type in Numbered]: {
    readonly type: Type
    readonly input: RequestInput<Shop, Type>
    readonly requestId: string
    readonly principal: string
  }
}[Numbered]

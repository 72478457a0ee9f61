import type { RequestInput, RequestName } from 'hence'
import type { Shop } from './shop.ts'

/** Requests about something with a number: what the shop's papers tell. */
type Numbered = Exclude<RequestName<Shop>, 'count-stock'>

/** A request of the shop, ready to be sent, and sent again. */
export type Submission = {
  [Type in Numbered]: {
    readonly type: Type
    readonly input: RequestInput<Shop, Type>
    readonly requestId: string
    readonly principal: string
  }
}[Numbered]

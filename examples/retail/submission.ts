import type { RequestInput, RequestName } from 'hence'
import type { Shop } from './shop.ts'

/** A request of the shop, ready to be sent, and sent again. */
export type Submission = {
  [Type in RequestName<Shop>]: {
    readonly type: Type
    readonly input: RequestInput<Shop, Type>
    readonly requestId: string
    readonly principal: string
  }
}[RequestName<Shop>]

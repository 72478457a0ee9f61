/** An engine that takes requests from its parent process until the parent kills it or asks it to close. */
import { HenceError } from 'hence'
import { openTill } from './till-engine.ts'

export type Order =
  | { readonly kind: 'submit'; readonly id: string; readonly type: 'pay' | 'empty'; readonly input: never }
  | { readonly kind: 'look' }
  | { readonly kind: 'mark' }
  | { readonly kind: 'close' }

export type Told =
  | { readonly kind: 'mark'; readonly position: string; readonly digest: string }
  | { readonly kind: 'ready' }
  | { readonly kind: 'reply'; readonly id: string; readonly reply: unknown }
  | { readonly kind: 'error'; readonly id: string; readonly code: string; readonly message: string }
  | { readonly kind: 'seen'; readonly tills: unknown; readonly towns: unknown; readonly digest: string }

const directory = process.argv[2]!
const tell = (told: Told) => process.send!(told)

const engine = await openTill(directory)

process.on('message', (order: Order) => void obey(order))
tell({ kind: 'ready' })

async function obey(order: Order): Promise<void> {
  if (order.kind === 'close') {
    await engine.close()
    process.disconnect?.()
  } else if (order.kind === 'mark') {
    // Both at one moment: nothing is applied in between.
    const [position, digest] = [engine.position(), await engine.digest()]
    tell({ kind: 'mark', position, digest })
  } else if (order.kind === 'look') {
    await engine.idle()
    const [tills, towns] = [await engine.scan('tills'), await engine.scan('towns')]
    tell({ kind: 'seen', tills, towns, digest: await engine.digest() })
  } else {
    const { id, type, input } = order
    try {
      tell({ kind: 'reply', id, reply: await engine.submit(type, input, { requestId: id }) })
    } catch (error) {
      const { code, message } =
        error instanceof HenceError ? error : { code: 'unexpected', message: `${error}` }
      tell({ kind: 'error', id, code, message })
    }
  }
}

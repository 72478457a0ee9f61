/** An engine that takes requests and derives a candidate beside them, until its parent process ends it. */
import { randomUUID } from 'node:crypto'
import { createEngine, systemClock } from 'hence'
import { openDirectory } from '../../src/storage/storage.ts'
import { derivingIn } from './deriving-processes.ts'
import type app from './wallets-old.ts'

export type Order =
  /** Starts a candidate with the same code; answered by `derives`. */
  | { readonly kind: 'derive'; readonly share: number }
  /** Answered by `reached` after this many more records, or at the end of the log. */
  | { readonly kind: 'reach'; readonly more: number }
  /** Answered by `reached` at the end of the log. */
  | { readonly kind: 'catch up' }
  | { readonly kind: 'pause' }
  /** Exits at once. */
  | { readonly kind: 'exit' }
  /** Does nothing more, and so exits as soon as nothing keeps it alive. */
  | { readonly kind: 'leave' }

export type Told =
  | { readonly kind: 'waiting' }
  /** The engine has the directory; these processes derived in it at that moment. */
  | { readonly kind: 'opened'; readonly deriving: readonly number[] }
  | { readonly kind: 'ready' | 'derives' | 'reached'; readonly records: number; readonly state: string }

const directory = process.argv[2]!
const tell = (told: Told) => process.send?.(told, () => {})
// The test that killed it need not wait for it.
process.on('disconnect', () => {
  isLeft = true
})

let isLeft = false
tell({ kind: 'waiting' })
const data = await openDirectory({
  directory,
  partitions: 3,
  clock: systemClock,
  report: () => {},
  segmentBytes: 64 * 1024,
  wait: true,
})
tell({ kind: 'opened', deriving: derivingIn(directory) })
const engine = await createEngine<typeof app>({
  app: import.meta.resolve('./wallets-old.ts'),
  data,
  // Few rows a checkpoint, so that one is usually under way when the process dies.
  checkpointRows: 300,
  report: () => {},
})
const { reprocessing } = engine
const progress = async () => {
  const { records, state } = (await reprocessing.status()) ?? { records: 0, state: 'none' }
  return { records, state }
}
process.on('message', (order: Order) => void obey(order))
tell({ kind: 'ready', ...(await progress()) })
void send()

async function obey(order: Order): Promise<void> {
  switch (order.kind) {
    case 'derive':
      await reprocessing.start(
        { app: import.meta.resolve('./wallets-old.ts') },
        { again: true, share: order.share },
      )
      return void tell({ kind: 'derives', ...(await progress()) })
    case 'reach': {
      const { records } = await progress()
      for (let now = await progress(); now.records < records + order.more && now.state === 'deriving'; ) {
        await new Promise(setImmediate)
        now = await progress()
      }
      return void tell({ kind: 'reached', ...(await progress()) })
    }
    case 'catch up':
      await reprocessing.caughtUp()
      return void tell({ kind: 'reached', ...(await progress()) })
    case 'pause':
      await reprocessing.pause()
      return void tell({ kind: 'reached', ...(await progress()) })
    case 'exit':
      return process.exit()
    case 'leave':
      isLeft = true
      process.disconnect!()
  }
}

/** A client that sends one request after another. */
async function send(): Promise<void> {
  for (let i = 0; !isLeft; i++) {
    const input = { from: `wallet ${i % 50}`, to: `wallet ${(i * 7) % 60}`, cents: 1 + (i % 1_000) }
    await engine.submit('move', input, { requestId: randomUUID() })
  }
}

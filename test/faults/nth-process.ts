/** One phase of the life of a data directory, in which strace makes a system call fail or ends the process. */
import { type Engine, HenceError } from 'hence'
import { backup, restore } from 'hence/offline'
import type till from './till.ts'
import { openTill } from './till-engine.ts'

const [phase, data, other] = process.argv.slice(2) as [string, string, string]

/** Each is repeated until it is decided: one call that fails must not hold the engine up for good. */
async function pay(engine: Engine<typeof till>, id: string): Promise<void> {
  const input = { till: `till ${id.length}`, town: 'a', cents: 1 }
  for (let i = 0; ; i++) {
    try {
      const reply = await engine.submit('pay', input, { requestId: id })
      console.log(JSON.stringify({ id, value: reply.status === 'accepted' ? reply.value : reply.status }))
      return
    } catch (error) {
      if (i === 100 || !(error instanceof HenceError) || error.code === 'engine-stopped') throw error
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}

async function serve(act: (engine: Engine<typeof till>) => Promise<unknown>): Promise<void> {
  const engine = await openTill(data)
  try {
    await act(engine)
  } finally {
    await engine.close()
  }
}

/** Segments of 16 KiB are full after some dozens, and a checkpoint is due after 60 changed rows. */
const many = (count: number) => (engine: Engine<typeof till>) =>
  Promise.all(
    Array.from({ length: count }, (_, i) =>
      pay(engine, `${phase.replaceAll(' ', '-')}-${'x'.repeat(i % 50)}${i}`),
    ),
  )

const phases: { readonly [phase: string]: () => Promise<unknown> } = {
  'first start': () => serve(many(3)),
  append: () => serve(many(5)),
  'roll and checkpoint': () => serve(many(300)),
  recovery: () => serve(many(1)),
  promote: () =>
    serve(async (engine) => {
      const { reprocessing } = engine
      if ((await reprocessing.status()) !== undefined) await reprocessing.discard()
      await reprocessing.start({ app: import.meta.resolve('./till.ts') }, { again: true, share: 1 })
      const { sha256: diff } = await reprocessing.diff()
      await reprocessing.promote({ diff }, { requestId: 'promotion' })
      await many(2)(engine)
    }),
  backup: () => backup({ data: other, to: data }),
  restore: () => restore({ from: other, to: data }),
}

try {
  await phases[phase]!()
} catch (error) {
  if (!(error instanceof HenceError)) throw error
  console.log(JSON.stringify({ refused: error.code, message: error.message }))
}
process.exit(0)

/** Runs phases of the life of a data directory while strace makes a call fail, or ends the process at one. */
import { readdirSync, readlinkSync } from 'node:fs'
import { type Engine, HenceError, type Receipt } from 'hence'
import { backup, restore } from 'hence/offline'
import type till from './till.ts'
import { openTill } from './till-engine.ts'

/** Each message is [phase, data directory, directory of the copy]; the answers are what was acknowledged. */
export interface Answer {
  readonly isOpen?: true
  readonly id?: string
  readonly value?: unknown
  /** Everybody who has the public key may check it from now on. */
  readonly receipt?: Receipt
  readonly refused?: { readonly code: string; readonly message: string }
  /** The answer is complete. */
  readonly isOver?: true
  /** Files that are still open then. */
  readonly left?: readonly string[]
}
const answer = (given: Answer) => process.send!(given)

let phase: string
let data: string
let other: string

/** Repeats a call until it succeeds: one system call that fails must not hold the engine up for good. */
async function untilDone<T>(call: () => Promise<T>): Promise<T> {
  for (let i = 0; ; i++) {
    try {
      return await call()
    } catch (error) {
      if (i === 100 || !(error instanceof HenceError) || error.code === 'engine-stopped') throw error
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}

async function pay(engine: Engine<typeof till>, id: string): Promise<void> {
  const input = { till: `till ${id.length}`, town: 'a', cents: 1 }
  const reply = await untilDone(() => engine.submit('pay', input, { requestId: id }))
  answer({ id, value: reply.status === 'accepted' ? reply.value : reply.status })
}

async function prove(engine: Engine<typeof till>, id: string): Promise<void> {
  answer({ receipt: (await untilDone(() => engine.audit.receipt(id)))! })
}

async function serve(
  act: (engine: Engine<typeof till>) => Promise<unknown>,
  options?: { readonly audit: true },
): Promise<void> {
  const engine = await openTill(data, undefined, options)
  answer({ isOpen: true })
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

/** A head that covers what was there, and another one. */
const audited = async (engine: Engine<typeof till>) => {
  await prove(engine, 'before-0')
  await pay(engine, 'audited')
  await prove(engine, 'audited')
}

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
  'first audit': () => serve(audited, { audit: true }),
  audit: () => serve(audited, { audit: true }),
  backup: () => backup({ data: other, to: data }),
  restore: () => restore({ from: other, to: data }),
}

process.on('message', async (given: [string, string, string]) => {
  ;[phase, data, other] = given
  try {
    await phases[phase]!()
  } catch (error) {
    if (!(error instanceof HenceError)) throw error
    answer({ refused: { code: error.code, message: error.message } })
  }
  answer({ isOver: true, left: openFiles() })
})

/** The files of both directories that this process has open. */
function openFiles(): string[] {
  const paths = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      return '' // That of the reading itself.
    }
  })
  return paths.filter((path) => path.startsWith(data) || path.startsWith(other))
}

answer({ isOver: true })

import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { createEngine } from 'hence'
import type { Bank } from '../examples/transfers/transfers.ts'
import { drive, type Run, summary } from './drive.ts'
import { accountCount, newId } from './payment.ts'
import { processorMicros, threadMicros } from './processor.ts'
import { type Bench, type Result, settled } from './result.ts'
import { transfers as make, type Transfer } from './transfer.ts'

const inFlight = 1_024

/**
 * Transfers as TigerBeetle's benchmark makes them, by the example `transfers`: a request and two events each.
 * A run ends when the last event is applied.
 */
export async function transfers({ directory, sized, progress }: Bench): Promise<Result[]> {
  const data = join(directory, 'transfers')
  await mkdir(data, { mode: 0o700 })
  const engine = await createEngine<Bank>({
    app: import.meta.resolve('../examples/transfers/transfers.ts'),
    data,
  })
  const name = (account: number) => `account-${String(account).padStart(6, '0')}`
  const accepted = ({ status }: { readonly status: string }) => {
    if (status !== 'accepted') throw new Error(`A transfer was ${status}.`)
  }
  const results: Result[] = []
  try {
    const open = (i: number) =>
      engine.submit('open-account', { account: name(i), cents: 1e12 }, { requestId: newId() })
    await drive(inFlight, accountCount, open, accepted)
    const rounds = sized(5, 2, 1)
    for (const hot of [false, true]) {
      const runs: Run[] = []
      for (let round = 0; round <= rounds; round++) {
        const made = make(sized(50_000, 10_000, 500), hot)
        const run = await untilIdle(made, async () => {
          const send = (i: number) => {
            const { requestId, from, to, cents } = made[i]!
            return engine.submit('transfer', { from: name(from), to: name(to), cents }, { requestId })
          }
          const sent = await drive(inFlight, made.length, send, accepted)
          await engine.idle()
          return sent
        })
        await settled(sized)
        if (round > 0) runs.push(run)
        progress(`transfers: ${hot ? 'hot account, ' : ''}round ${round}: ${Math.round(run.perSecond)}/s`)
      }
      results.push({
        ...summary(runs),
        what: `transfers ${hot ? 'from a hot account' : 'between any accounts'}: engine.submit`,
        note: `${inFlight.toLocaleString('en-US')} in flight; each is a request and two events, counted when all three are applied`,
      })
    }
  } finally {
    await engine.close()
  }
  return results
}

/** A run of `drive` that also counts what is done after the last reply. */
async function untilIdle(made: readonly Transfer[], act: () => Promise<Run>): Promise<Run> {
  const [processor, thread, startedAt] = [processorMicros(), threadMicros(), performance.now()]
  const { latencies } = await act()
  return {
    perSecond: (made.length / (performance.now() - startedAt)) * 1000,
    processorMicros: (processorMicros() - processor) / made.length,
    threadMicros: (threadMicros() - thread) / made.length,
    latencies,
  }
}

import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { medianProcessor } from './drive.ts'
import type { Latencies, Latency } from './latency-process.ts'
import type { PlainlyDerived } from './plain-deriving-process.ts'
import { runBench } from './process.ts'
import type { Reprocessed } from './reprocessing-process.ts'
import { type Bench, median, type Result } from './result.ts'
import type { Verified } from './verifying-process.ts'

/**
 * Deriving everything again beside the live generation, comparing and verifying it, and the latency of
 * requests meanwhile.
 */
export async function reprocess({ directory, sized, progress }: Bench): Promise<Result[]> {
  const count = sized(500_000, 100_000, 2_000)
  const rounds = sized(5, 2, 1)
  const data = join(directory, 'reprocess')
  await mkdir(data, { mode: 0o700 })
  progress(`reprocess: making a log of ${count} requests`)
  await runBench('submitting-process.ts', [data, String(count)])
  const anew = async () => {
    await rm(join(data, 'state/1'), { recursive: true, force: true })
    await rm(join(data, 'state/generations.json'), { force: true })
  }

  const plain: PlainlyDerived[] = []
  const again: Reprocessed[] = []
  const verified: Verified[] = []
  for (let i = 1; i <= rounds; i++) {
    plain.push(await runBench<PlainlyDerived>('plain-deriving-process.ts', [data]))
    await anew()
    again.push(await runBench<Reprocessed>('reprocessing-process.ts', [data]))
    verified.push(await runBench<Verified>('verifying-process.ts', [data]))
    progress(
      `reprocess: round ${i} of ${rounds}: plain loop ${plain.at(-1)!.seconds.toFixed(2)} s, derived again in ` +
        `${again.at(-1)!.seconds.toFixed(2)} s, verified in ${verified.at(-1)!.byteSeconds.toFixed(2)} s`,
    )
  }
  const plainly = median(plain.map(({ records, seconds }) => records / seconds))
  const deriving = median(again.map(({ records, seconds }) => records / seconds))
  await anew()
  progress('reprocess: latency of requests, alone and beside it')
  const { results } = await runBench<{ results: Latencies[] }>('latency-process.ts', [
    data,
    String(rounds),
    String(sized(40_000, 10_000, 400)),
    String(sized(20_000, 20_000, 500)),
  ])
  return [
    {
      what: 'a plain loop over the records',
      figure: plainly,
      unit: 'records/s',
      ratio: 1,
      ...perUnit(plain, ({ processorMicros, records }) => processorMicros / records),
    },
    {
      what: 'reprocess beside an idle engine',
      figure: deriving,
      unit: 'records/s',
      ratio: deriving / plainly,
      ...perUnit(again, ({ processorMicros, records }) => processorMicros && processorMicros / records),
      note: 'the ratio is to the plain loop; processor time of the engine and the child process',
    },
    {
      what: 'diff of two equal generations',
      figure: median(again.map(({ entries, compareSeconds }) => entries / compareSeconds)),
      unit: 'rows/s',
      ...perUnit(again, ({ entries, compareMicros }) => compareMicros / entries),
      note: 'rows and outcomes of both',
    },
    {
      what: 'verify: bytes, checksums, chain, tree',
      figure: median(verified.map(({ bytes, byteSeconds }) => bytes / byteSeconds / 1e6)),
      unit: 'MB/s',
      ...perUnit(verified, ({ bytes, byteMicros }) => (byteMicros / bytes) * 1e6),
    },
    {
      what: 'verify: history derived again',
      figure: median(verified.map(({ records, historySeconds }) => records / historySeconds)),
      unit: 'records/s',
      ...perUnit(verified, ({ records, historyMicros }) => historyMicros / records),
    },
    ...results.flatMap(besideResults),
  ]
}

/** The median of the processor time for each unit. */
function perUnit<T>(runs: readonly T[], micros: (run: T) => number | undefined) {
  return medianProcessor(runs.map((run) => ({ processorMicros: micros(run) })))
}

function besideResults({ inFlight, alone, besideLoop, beside, derivedPerSecond }: Latencies): Result[] {
  const [half, most] = [beside.p50 / alone.p50, beside.p99 / alone.p99]
  const result = (where: string, { perSecond, processorMicros, p50, p99 }: Latency): Result => ({
    what: `submit, ${inFlight} in flight, ${where}`,
    figure: perSecond,
    unit: 'requests/s',
    processorMicros,
    p50,
    p99,
  })
  return [
    result('alone', alone),
    {
      ...result('beside a plain busy loop', besideLoop),
      note: `p99 ${(besideLoop.p99 / alone.p99).toFixed(2)} × that alone`,
    },
    {
      ...result('beside a reprocess', beside),
      note:
        `p50 ${half.toFixed(2)} ×, p99 ${most.toFixed(2)} × that alone; meanwhile ` +
        `${Math.round(derivedPerSecond).toLocaleString('en-US')} records/s were derived again`,
    },
  ]
}

import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { AtRate, Load } from './load-process.ts'
import { runBench } from './process.ts'
import type { Bench, Result } from './result.ts'

/**
 * The latency of requests that arrive at a part of saturation.
 * @param seconds how long half of saturation is measured
 */
export async function load(
  { directory, sized, progress, plot }: Bench,
  seconds = sized(60, 20, 0.5),
): Promise<Result[]> {
  const data = join(directory, 'load')
  await mkdir(data, { mode: 0o700 })
  progress(`load: up to saturation, then ${seconds} s at half of it`)
  const run = await runBench<Load>('load-process.ts', [
    data,
    String(sized(100_000, 30_000, 1_000)),
    String(sized(10, 3, 0.1)),
    String(seconds),
  ])
  const { saturation, steps, half, bare } = run
  const quantiles = ['p50', 'p99', 'p999'] as const
  const names = { p50: 'p50', p99: 'p99', p999: 'p99.9' }
  plot('load', {
    title: 'Latency against load, with checkpoints, pruning and audit',
    x: { label: 'requests/s' },
    y: { label: 'ms', log: true },
    series: quantiles.map((of) => ({ name: names[of], points: steps.map((at) => [at.rate, at[of]]) })),
  })
  plot('latency', {
    title: `Latency at half of saturation (${Math.round(half.rate)} requests/s), second by second`,
    x: { label: 's' },
    y: { label: 'ms', log: true },
    series: quantiles.map((of) => ({
      name: names[of],
      points: run.seconds.map((each) => [each.at, each[of]]),
    })),
  })
  const result = (what: string, { perSecond, processorMicros, p50, p99, p999 }: AtRate): Result => ({
    what,
    figure: perSecond,
    unit: 'requests/s',
    processorMicros,
    p50,
    p99,
    p999,
  })
  return [
    ...steps.map((at) =>
      result(`arriving at ${Math.round((at.rate / saturation) * 100)} % of saturation`, at),
    ),
    {
      ...result(`arriving at half of saturation for ${seconds} s`, half),
      note:
        `saturation: ${Math.round(saturation).toLocaleString('en-US')} requests/s; the longest took ` +
        `${half.max.toFixed(1)} ms; checkpoints and audit ran${run.hasPruned ? ', and ids were forgotten' : ''}`,
    },
    result('the bare loop at that rate', bare),
  ]
}

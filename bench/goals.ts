import type { Result } from './result.ts'

/** A goal of the design, and what this run measured of it. */
export interface Goal {
  readonly work: string
  /** In November 2026, before any of the work on speed. */
  readonly was: string
  /** `–` where this run did not measure it. */
  readonly is: string
  readonly goal: string
  readonly met: boolean | undefined
  readonly command: string
}

/** All goals, judged by the results of a run. */
export function goalsOf(results: readonly Result[]): Goal[] {
  const find = (start: string) => results.findLast(({ what }) => what.startsWith(start))
  const judged = (
    work: string,
    was: string,
    goal: string,
    part: string,
    judge: () => readonly [is: string, met: boolean] | undefined,
  ): Goal => {
    const [is = '–', met] = judge() ?? []
    return { work, was, is, goal, met, command: `npm run bench -- ${part}` }
  }
  return [
    judged(
      'engine.submit, 1,024 in flight: µs of the thread / of the process; of the bare loop',
      '16 / 23; 0.18',
      '≤ 9 / 11; ≥ 0.28',
      '--only submit',
      () => {
        const { threadMicros, processorMicros, ratio } = find('engine.submit, 1024 in flight') ?? {}
        if (threadMicros === undefined || processorMicros === undefined || ratio === undefined)
          return undefined
        const is = `${tenth(threadMicros)} / ${tenth(processorMicros)}; ${hundredth(ratio)}`
        return [is, threadMicros <= 9 && processorMicros <= 11 && ratio >= 0.28]
      },
    ),
    judged('the same on shards (threads)', 'one thread', '≥ 1.7 × on two cores', '', () => undefined),
    judged(
      'latency at half of saturation, with checkpoints, pruning and audit: p99, p99.9',
      '9.5 to 60 ms, –',
      '≤ 5 ms, ≤ 20 ms',
      '--only load',
      () => {
        const { p99, p999 } = find('arriving at half of saturation') ?? {}
        if (p99 === undefined || p999 === undefined) return undefined
        return [`${tenth(p99)} ms, ${tenth(p999)} ms`, p99 <= 5 && p999 <= 20]
      },
    ),
    judged(
      'the shop imports its file, 1 partition: processor a request; all but the log',
      '1.5 ms; 19 × the log',
      '≤ 0.3 ms; ≤ 3 ×',
      '--only shop',
      () => {
        const millis = (each('the shop imports')[0]?.processorMicros ?? Number.NaN) / 1000
        const state = each('everything outside the log')[0]?.figure ?? Number.NaN
        if (Number.isNaN(millis + state)) return undefined
        return [`${hundredth(millis)} ms; ${tenth(state)} ×`, millis <= 0.3 && state <= 3]
      },
    ),
    judged(
      'one strict claim, of a request without: in one partition; across',
      '0.40; 0.24',
      '≥ 0.7; ≥ 0.5',
      '--only claims',
      () => {
        const [one, across] = [
          find('one strict claim, in one partition')?.ratio,
          find('one strict claim, across partitions')?.ratio,
        ]
        if (one === undefined || across === undefined) return undefined
        return [`${hundredth(one)}; ${hundredth(across)}`, one >= 0.7 && across >= 0.5]
      },
    ),
    judged(
      'a retry, of a first try: processor time at 1, 64, 1,024 in flight',
      '10 to 50 ×',
      '≤ 0.6 ×',
      '--only submit',
      () => {
        const ratios = [1, 64, 1024].map(
          (n) =>
            (find(`the same id again, ${n} in flight`)?.processorMicros ?? Number.NaN) /
            (find(`engine.submit, ${n} in flight`)?.processorMicros ?? Number.NaN),
        )
        if (ratios.some(Number.isNaN)) return undefined
        return [`${ratios.map(hundredth).join(', ')} ×`, Math.max(...ratios) <= 0.6]
      },
    ),
    judged(
      'a request over HTTP, 64 connections, of a POST on node:http that parses the same body',
      '0.26',
      '≥ 0.5',
      '--only http',
      () => {
        const ratio = find('POST /requests/pay')?.ratio
        return ratio === undefined ? undefined : [hundredth(ratio), ratio >= 0.5]
      },
    ),
    judged('replay', '92 k records/s', '≥ 150 k a core', '--only replay', () => {
      const figure = find('replay of all records')?.figure
      return figure === undefined ? undefined : [`${thousands(figure)} records/s`, figure >= 150_000]
    }),
    judged(
      'reprocess: of replay; p99 of live requests beside it, at 1 and 64 in flight',
      '0.3 to 1; 2.75 ×',
      '≥ 0.6; ≤ 2 ×',
      '--only replay,reprocess',
      () => {
        const part =
          (find('reprocess beside an idle engine')?.figure ?? Number.NaN) /
          (find('replay of all records')?.figure ?? Number.NaN)
        const ratios = [1, 64].map(
          (n) =>
            (find(`submit, ${n} in flight, beside a reprocess`)?.p99 ?? Number.NaN) /
            (find(`submit, ${n} in flight, alone`)?.p99 ?? Number.NaN),
        )
        if (Number.isNaN(part) || ratios.some(Number.isNaN)) return undefined
        const is = `${hundredth(part)}; ${ratios.map(hundredth).join(', ')} ×`
        return [is, part >= 0.6 && Math.max(...ratios) <= 2]
      },
    ),
    judged(
      'the longest wait for a promotion, at a million differences',
      '–',
      '≤ 100 ms',
      '--only promotion',
      () => {
        const { figure } = find('the longest wait for a promotion') ?? {}
        return figure === undefined ? undefined : [`${Math.round(figure)} ms`, figure <= 100]
      },
    ),
    judged('p99 of live requests while a view is built, 64 in flight', '–', '≤ 1.5 ×', '--only views', () => {
      const [without, during] = ['without a view', 'while a view is built'].map(
        (where) => find(`submit, 64 in flight, ${where}`)?.p99 ?? Number.NaN,
      ) as [number, number]
      const ratio = during / without
      return Number.isNaN(ratio) ? undefined : [`${hundredth(ratio)} ×`, ratio <= 1.5]
    }),
    judged(
      'ready after kill -9 with millions of records; anonymous memory from 1 to so many',
      '1.1 s at 3 million; –',
      '≤ 1 s + tail; ≤ 10 % more',
      '--long 10',
      () => {
        const rest = results.findLast(({ what }) =>
          /^ready after kill -9 with .*: all but the tail$/.test(what),
        )
        const memory = find('anonymous memory at')
        if (rest === undefined || memory?.ratio === undefined) return undefined
        const is = `${hundredth(rest.figure)} s + tail; ${Math.round((memory.ratio - 1) * 100)} % more`
        return [is, rest.figure <= 1 && memory.ratio <= 1.1]
      },
    ),
    judged('longest step of a message with thousands of consequences', '–', '≤ 50 ms', '--only steps', () => {
      const all = each('longest step').map(({ figure }) => figure)
      return all.length === 0 ? undefined : [`${all.map(tenth).join(', ')} ms`, Math.max(...all) <= 50]
    }),
  ]

  function each(start: string): Result[] {
    return results.filter(({ what }) => what.startsWith(start))
  }
}

function tenth(figure: number): string {
  return figure.toFixed(1)
}

function hundredth(figure: number): string {
  return figure.toFixed(2)
}

function thousands(figure: number): string {
  return `${Math.round(figure / 1000)} k`
}

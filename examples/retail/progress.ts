import { Presets, SingleBar } from 'cli-progress'

export interface Progress {
  /** Counts one more decided request. */
  step(): void
  stop(): void
}

/** Shows progress on standard error: a bar on a terminal, otherwise a line for every twentieth. */
export function showProgress(total: number): Progress {
  return process.stderr.isTTY ? bar(total) : lines(total)
}

function bar(total: number): Progress {
  const format = ' {bar} {percentage}% | {value} of {total} requests | {eta_formatted} left'
  const bar = new SingleBar({ format, hideCursor: true, etaBuffer: 5_000 }, Presets.shades_classic)
  bar.start(total, 0)
  return { step: () => bar.increment(), stop: () => bar.stop() }
}

function lines(total: number): Progress {
  const every = Math.max(1, Math.ceil(total / 20))
  let count = 0
  return {
    step() {
      count++
      if (count % every === 0 || count === total) console.error(`${count} of ${total} requests`)
    },
    stop() {},
  }
}

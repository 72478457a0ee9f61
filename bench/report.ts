import type { Machine } from './place.ts'
import type { Result } from './result.ts'

/** Formats the results as a table, with notes below it. */
export function describe(machine: Machine, results: readonly Result[], loads: readonly number[]): string {
  const head = ['', 'figure', 'CPU µs', 'to bare loop', 'p50 ms', 'p99 ms', 'goal', '']
  const notes: string[] = []
  const lines = results.map((result) => {
    const { what, figure, unit, processorMicros, ratio, p50, p99, goal, note } = result
    if (note !== undefined && !notes.includes(note)) notes.push(note)
    return [
      note === undefined ? what : `${what} [${notes.indexOf(note) + 1}]`,
      `${grouped(figure)} ${unit}`,
      processorMicros === undefined ? '' : processorMicros.toFixed(processorMicros < 10 ? 2 : 1),
      ratio === undefined ? '' : ratio.toFixed(ratio < 0.1 ? 3 : 2),
      p50 === undefined ? '' : p50.toFixed(2),
      p99 === undefined ? '' : p99.toFixed(2),
      goal?.text ?? '',
      goal === undefined ? '' : goal.met ? 'met' : 'MISSED',
    ]
  })
  const widths = head.map((title, i) => Math.max(title.length, ...lines.map((cells) => cells[i]!.length)))
  const leftAligned = [0, 6, 7]
  const row = (cells: readonly string[]) =>
    cells
      .map((cell, i) => (leftAligned.includes(i) ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join('  ')
      .trimEnd()
  return [
    describeMachine(machine, loads),
    '',
    row(head),
    ...lines.map(row),
    '',
    ...notes.map((note, i) => `[${i + 1}] ${note}`),
  ].join('\n')
}

function describeMachine(machine: Machine, loads: readonly number[]): string {
  const { cores, processor, memoryGibibytes, system, node, fileSystem } = machine
  const lines = [
    `${cores} × ${processor}, ${memoryGibibytes} GiB, ${system}, Node ${node}, ${fileSystem}; ` +
      `load average before and after: ${loads.map((load) => load.toFixed(1)).join(', ')}`,
  ]
  if (machine.inMemory) {
    lines.push(
      `The directory is in memory (${fileSystem}), where an fsync costs nothing: no figure here is one of durable writes.`,
    )
  }
  return lines.join('\n')
}

function grouped(figure: number): string {
  return figure < 100 ? figure.toFixed(2) : Math.round(figure).toLocaleString('en-US')
}

import type { Goal } from './goals.ts'
import type { Machine } from './place.ts'
import type { Result } from './result.ts'

/** Formats the results as a table, with notes below it. */
export function describe(
  machine: Machine,
  results: readonly Result[],
  loads: readonly number[],
  skipped: readonly string[],
): string {
  const head = ['', 'figure', 'CPU µs', 'thread', 'ratio', 'p50 ms', 'p99 ms', 'p99.9']
  const notes: string[] = []
  const lines = results.map((result) => {
    const { what, figure, unit, processorMicros, threadMicros, ratio, p50, p99, p999, note } = result
    if (note !== undefined && !notes.includes(note)) notes.push(note)
    return [
      note === undefined ? what : `${what} [${notes.indexOf(note) + 1}]`,
      `${grouped(figure)} ${unit}`,
      micros(processorMicros),
      micros(threadMicros),
      ratio === undefined ? '' : ratio.toFixed(ratio < 0.1 ? 3 : 2),
      p50 === undefined ? '' : p50.toFixed(2),
      p99 === undefined ? '' : p99.toFixed(2),
      p999 === undefined ? '' : p999.toFixed(2),
    ]
  })
  const row = columns([head, ...lines], [0])
  return [
    describeMachine(machine, loads),
    '',
    row(head),
    ...lines.map(row),
    '',
    ...notes.map((note, i) => `[${i + 1}] ${note}`),
    ...skipped,
  ].join('\n')
}

/** Formats the goals as a table. */
export function describeGoals({ cores, processor, node }: Machine, goals: readonly Goal[]): string {
  const head = [`goals, on ${cores} × ${processor}, Node ${node}`, 'was', 'is', 'goal', '', 'command']
  const lines = goals.map(({ work, was, is, goal, met, command }) => {
    const verdict = met === undefined ? 'not measured' : met ? 'met' : 'MISSED'
    return [work, was, is, goal, verdict, command]
  })
  return [head, ...lines].map(columns([head, ...lines], [0, 1, 2, 3, 4, 5])).join('\n')
}

/** Pads the cells of a row to the widths of a table's columns. */
function columns(table: readonly (readonly string[])[], leftAligned: readonly number[]) {
  const widths = table[0]!.map((_, i) => Math.max(...table.map((cells) => cells[i]!.length)))
  return (cells: readonly string[]) =>
    cells
      .map((cell, i) => (leftAligned.includes(i) ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join('  ')
      .trimEnd()
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

function micros(figure: number | undefined): string {
  return figure === undefined ? '' : figure.toFixed(figure < 10 ? 2 : 1)
}

function grouped(figure: number): string {
  return figure < 100 ? figure.toFixed(2) : Math.round(figure).toLocaleString('en-US')
}

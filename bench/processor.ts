/** Processor time, user and system, of all threads, in microseconds. */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'

/** Of this process. */
export function processorMicros(): number {
  const { user, system } = process.cpuUsage()
  return user + system
}

/** Of this thread alone: the part of `processorMicros` that stands in the way of everything else. */
export function threadMicros(): number {
  const { user, system } = process.threadCpuUsage()
  return user + system
}

/** Of another process, to 10 ms; undefined on systems other than Linux, or if the process is gone. */
export function processorMicrosOf(pid: number): number | undefined {
  const stat = readStat(pid)
  return stat && (Number(stat[11]) + Number(stat[12])) * 10_000
}

/** The children of a process; none on systems other than Linux. */
export function childrenOf(parent: number): number[] {
  if (process.platform !== 'linux') return []
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  return pids.map(Number).filter((pid) => Number(readStat(pid)?.[1]) === parent)
}

/** The fields of `/proc/PID/stat` from the state on; the name before them may contain anything. */
function readStat(pid: number): string[] | undefined {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
  } catch {
    return undefined
  }
}

/** Asks a process of the bench for its own processor time; see `answerProcessorTime`. */
export async function processorMicrosOfChild(child: ChildProcess): Promise<number> {
  const answer = once(child, 'message')
  child.send('processor')
  const [{ micros }] = (await answer) as [{ micros: number }]
  return micros
}

/** Lets the parent process ask for the processor time of this one. */
export function answerProcessorTime(): void {
  process.on('message', () => process.send!({ micros: processorMicros() }))
}

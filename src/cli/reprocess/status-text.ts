import { failedKey } from '../../failure.ts'
import { counted } from '../../plain-text.ts'
import type { ControlFact, ReprocessStatus } from '../../reprocess/reprocessing.ts'
import type { Generations } from '../../server/reprocess.ts'
import { paint } from '../terminal/output.ts'
import { progressText } from '../terminal/progress.ts'

export const versionText = (version: string): string => `version ${version.slice(0, 12)}`

export function generationsText({ live, candidate, history }: Generations): string[] {
  return [
    `generation ${live.generation} ${paint.good('live')}, ${versionText(live.version)}`,
    ...(candidate === undefined ? ['There is no candidate.'] : statusText(candidate)),
    ...history.slice(-historyShown).map((fact) => `  ${factText(fact)}`),
  ]
}

const historyShown = 20

export function statusText(status: ReprocessStatus): string[] {
  const { generation, version, state, wasLive, records, of, failures, lastFailure, error, diff } = status
  const colour = { deriving: paint.strong, following: paint.good, paused: paint.warn, failed: paint.bad }[
    state
  ]
  const lines = [
    `generation ${generation} ${colour(state)}, ` +
      `${versionText(version)}${wasLive ? ', live before and kept' : ''}: ${count(records)} of ${count(of)} ` +
      `records${paceText(status)}`,
  ]
  if (failures > 0) lines.push(paint.bad(`  ${count(failures)} derivations failed`))
  if (lastFailure !== undefined) {
    const { partition, offset, type, key, code, message } = lastFailure
    lines.push(
      `  the last one: record ${partition}:${offset}, ${type} ${failedKey(key)}: ${code}: ${message}`,
    )
  }
  if (error !== undefined) lines.push(`  ${paint.bad(error.code)}: ${error.message}`)
  if (diff !== undefined) lines.push(`  diff ${diff}`)
  return lines
}

export function progressOf(status: ReprocessStatus): string {
  const { records, of } = status
  return `${progressText({ step: 'derive', done: records, total: of, unit: 'records' })}${paceText(status)}`
}

function paceText({ perSecond, leftMs }: ReprocessStatus): string {
  const pace = perSecond === undefined ? '' : `, ${count(Math.round(perSecond))} a second`
  return leftMs === undefined ? pace : `${pace}, ${durationText(leftMs)} left`
}

function durationText(ms: number): string {
  const seconds = Math.ceil(ms / 1000)
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.ceil(seconds / 60)
  if (minutes < 120) return `${minutes} min`
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** Groups digits by spaces, independent of the locale. */
export const count = (n: number): string => String(n).replace(/\B(?=(\d{3})+$)/g, ' ')

function factText(fact: ControlFact): string {
  const at = paint.faint(new Date(fact.at).toISOString())
  if (fact.type === 'version') {
    return `${at} ${versionText(fact.version)} took over in generation ${fact.generation}`
  }
  const { principal, requestId, diff, note, corrections } = fact
  return (
    `${at} generation ${fact.generation} promoted by ${principal || 'somebody'}, ` +
    `${versionText(fact.version)}, ${counted(corrections, 'correction')}` +
    `${note === undefined ? '' : `: ${JSON.stringify(note)}`} ` +
    `${paint.faint(`(request ${requestId}, diff ${diff.slice(0, 12)})`)}`
  )
}

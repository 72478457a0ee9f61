import { useQueryClient } from '@tanstack/react-query'
import { type FormEvent, useEffect, useRef, useState } from 'react'
import { type EffectPage, get, Refused, submit } from '../api.ts'
import { newRequestId } from '../decide.ts'
import { count, plural } from '../format.ts'
import { Commands } from '../parts.tsx'

interface Progress {
  readonly of: number
  readonly done: number
  /** How many were refused, by code or reason. */
  readonly refused: Readonly<Record<string, number>>
  readonly state: 'running' | 'stopped' | 'finished' | 'failed'
  readonly error?: string
}

/** Redrives all dead effects of a type, one after the other, so many a second. */
export function BulkRedrive({ type }: { type: string }) {
  const queries = useQueryClient()
  const [reason, setReason] = useState('')
  const [perSecond, setPerSecond] = useState(10)
  const [progress, setProgress] = useState<Progress>()
  const stopping = useRef<AbortController>(undefined)
  // It goes on only while the page is open.
  useEffect(() => () => stopping.current?.abort(), [])

  const redrive = async (signal: AbortSignal) => {
    const effects = await allDead(type, signal)
    let [done, refused]: [number, Record<string, number>] = [0, {}]
    const show = (state: Progress['state']) => setProgress({ of: effects.length, done, refused, state })
    show('running')
    for (const [i, { id, key }] of effects.entries()) {
      const next = new Promise((resolve) => setTimeout(resolve, 1_000 / perSecond))
      if (signal.aborted) return show('stopped')
      try {
        await submit('hence:redrive', { effect: id, key, reason }, newRequestId())
        done++
      } catch (error) {
        if (!(error instanceof Refused) || error.problem.reason === undefined) throw error
        const why = String(error.problem.reason)
        refused = { ...refused, [why]: (refused[why] ?? 0) + 1 }
      }
      show('running')
      if (i < effects.length - 1) await next
    }
    show('finished')
    await queries.invalidateQueries({ queryKey: ['effects'] })
  }
  const begin = (event: FormEvent) => {
    event.preventDefault()
    stopping.current = new AbortController()
    const { signal } = stopping.current
    setProgress({ of: 0, done: 0, refused: {}, state: 'running' })
    redrive(signal).catch((error: Error) => {
      if (!signal.aborted)
        setProgress((last) => ({ ...(last ?? nothing), state: 'failed', error: error.message }))
    })
  }
  const isRunning = progress?.state === 'running'
  return (
    <details className="bulk">
      <summary>Redrive all dead effects “{type}”</summary>
      <form className="decide" onSubmit={begin}>
        <label className="reason">
          Why all of them
          <input
            value={reason}
            onChange={({ target }) => setReason(target.value)}
            required
            maxLength={500}
            disabled={isRunning}
          />
        </label>
        <label className="policy">
          At most a second{' '}
          <input
            type="number"
            min={1}
            max={100}
            value={perSecond}
            onChange={({ target }) => setPerSecond(Math.min(100, Math.max(1, target.valueAsNumber || 1)))}
            disabled={isRunning}
          />
        </label>
        <div className="tools">
          {isRunning ? (
            <button type="button" className="tool" onClick={() => stopping.current?.abort()}>
              Stop
            </button>
          ) : (
            <button type="submit" className="primary" disabled={reason.trim() === ''}>
              Redrive all
            </button>
          )}
          <Commands
            command={[
              ...['effects', 'redrive', '--type', type, '--per-second', String(perSecond)],
              ...['--reason', reason || 'WHY'],
            ]}
            path="effects"
            query={{ state: 'dead', type }}
          />
        </div>
        <p className="preview" role="status">
          {progress === undefined
            ? 'Each is a request of its own. They stop when you leave this page; what was redriven stays so.'
            : wordsOf(progress)}
        </p>
      </form>
    </details>
  )
}

const nothing: Progress = { of: 0, done: 0, refused: {}, state: 'running' }

function wordsOf({ of, done, refused, state, error }: Progress): string {
  if (state === 'running' && of === 0) return 'Looking for all dead ones.'
  const parts = [`${count(done)} of ${plural(of, 'effect')} redriven`]
  for (const [why, n] of Object.entries(refused)) parts.push(`${count(n)} refused: ${why}`)
  if (state === 'stopped') parts.push('stopped')
  if (state === 'failed') parts.push(`ended with an error: ${error}`)
  return `${parts.join(', ')}.`
}

/** All that are dead now; those that die again meanwhile are not among them. */
async function allDead(type: string, signal: AbortSignal): Promise<EffectPage['effects']> {
  const effects: EffectPage['effects'][number][] = []
  let cursor: string | undefined
  do {
    const page: EffectPage = await get('effects', { state: 'dead', type, limit: 1_000, cursor }, signal)
    effects.push(...page.effects)
    cursor = page.cursor
  } while (cursor !== undefined)
  return effects
}

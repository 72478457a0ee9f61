import { keepPreviousData, useQuery } from '@tanstack/react-query'
import {
  type EffectPage,
  get,
  type Me,
  type Query,
  type SeriesView,
  type Status,
  type TablePage,
} from './api.ts'

// Queries that several pages share. A hidden tab asks for nothing.

export function useMe() {
  return useQuery({ queryKey: ['me'], queryFn: ({ signal }) => get<Me>('me', {}, signal), staleTime: 30_000 })
}

export function useStatus() {
  return useQuery({
    queryKey: ['status'],
    queryFn: ({ signal }) => get<Status>('status', {}, signal),
    refetchInterval: 1_000,
    retry: false,
  })
}

export function useRows(table: string, query: Query, options: { everyMs?: number; enabled?: boolean } = {}) {
  return useQuery({
    queryKey: ['rows', table, query],
    queryFn: ({ signal }) => get<TablePage>(`tables/${encodeURIComponent(table)}`, query, signal),
    refetchInterval: options.everyMs ?? 2_000,
    enabled: options.enabled ?? true,
    placeholderData: keepPreviousData,
  })
}

/** At most so many violations and effects are counted; one count serves all views. */
const countedMax = 1_000

/** The open violations, up to a bound; `more` is set if there are more. */
export function useOpenViolations() {
  const me = useMe()
  const query = { index: 'byState', prefix: '["open"]', limit: countedMax }
  const page = useRows('hence.violations', query, { everyMs: 3_000, enabled: may(me.data, 'operate') })
  const rows = page.data?.rows ?? []
  return { rows, more: page.data?.cursor !== undefined }
}

export function useDeadEffects() {
  const page = useEffects({ state: 'dead', limit: countedMax }, { everyMs: 3_000 })
  return { effects: page.data?.effects ?? [], more: page.data?.cursor !== undefined }
}

export function may(me: Me | undefined, permission: string): boolean {
  return me?.permissions.some((each) => each === permission || each === 'admin') ?? false
}

export function useEffects(query: Query, options: { everyMs?: number } = {}) {
  return useQuery({
    queryKey: ['effects', query],
    queryFn: ({ signal }) => get<EffectPage>('effects', query, signal),
    refetchInterval: options.everyMs ?? 2_000,
    placeholderData: keepPreviousData,
  })
}

/** The last five minutes of the server by second, or its last day by minute. */
export function useSeries(every: 'second' | 'minute') {
  return useQuery({
    queryKey: ['series', every],
    queryFn: ({ signal }) => get<SeriesView>('series', { every }, signal),
    refetchInterval: every === 'second' ? 2_000 : 60_000,
    retry: false,
  })
}

/** The duration, in milliseconds, that a share of the submits did not exceed; undefined without any. */
export function quantile({ bounds, counts }: Status['submits'], share: number): string | undefined {
  const total = counts.reduce((sum, n) => sum + n, 0)
  if (total === 0) return undefined
  let sum = 0
  for (const [i, n] of counts.entries()) {
    sum += n
    const bound = bounds[i]
    if (sum >= total * share) return bound === undefined ? '> 10 s' : `≤ ${bound * 1_000} ms`
  }
  return undefined
}

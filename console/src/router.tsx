import { createRootRoute, createRoute, createRouter, lazyRouteComponent } from '@tanstack/react-router'
import { consolePath } from './api.ts'
import { Overview } from './pages/overview.tsx'
import { NothingHere, Shell, ViewFailed } from './shell.tsx'

// Every view is one part below the console, so that addresses in the page stay relative; what it shows is in
// its search parameters.

type Given = Record<string, unknown>

const text = (value: unknown) =>
  typeof value === 'string' && value !== '' ? value : typeof value === 'number' ? String(value) : undefined
/** Parts of a key: a JSON list, which the router has parsed, or a text. */
const parts = (value: unknown) => (Array.isArray(value) ? JSON.stringify(value) : text(value))
const whole = (value: unknown) =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : undefined
/** A log time, or the token of a record. */
const moment = (value: unknown) =>
  whole(value) ?? (typeof value === 'string' && /^\d+:\d+$/.test(value) ? value : undefined)
const oneOf =
  <const V extends string>(...values: readonly V[]) =>
  (value: unknown) =>
    values.find((each) => each === value)

type Readers = Readonly<Record<string, (value: unknown) => unknown>>
type Search<R extends Readers> = { readonly [N in keyof R]?: ReturnType<R[N]> | undefined }

/** Reads the search parameters of a view; a value that does not fit is undefined, in place of the given one. */
const search =
  <R extends Readers>(readers: R) =>
  (given: Given): Search<R> =>
    Object.fromEntries(Object.entries(readers).map(([name, read]) => [name, read(given[name])])) as Search<R>

const root = createRootRoute({ component: Shell, notFoundComponent: NothingHere })
const view = <P extends string>(path: P) => ({ getParentRoute: () => root, path })

export const overviewRoute = createRoute({
  ...view('/'),
  component: Overview,
  validateSearch: search({ range: oneOf('day') }),
})
export const logRoute = createRoute({
  ...view('/log'),
  component: lazyRouteComponent(() => import('./pages/log.tsx'), 'Log'),
  validateSearch: search({
    partition: whole,
    from: whole,
    type: text,
    principal: text,
    outcome: oneOf('accepted', 'rejected', 'failed'),
    key: text,
    where: text,
    record: text,
  }),
})
export const requestRoute = createRoute({
  ...view('/request'),
  component: lazyRouteComponent(() => import('./pages/request.tsx'), 'Request'),
  validateSearch: search({ id: text, principal: text, step: whole }),
})
export const tablesRoute = createRoute({
  ...view('/tables'),
  component: lazyRouteComponent(() => import('./pages/tables.tsx'), 'Tables'),
  validateSearch: search({
    table: text,
    index: text,
    prefix: parts,
    from: parts,
    to: parts,
    reverse: oneOf('true'),
    row: parts,
    at: moment,
  }),
})
export const violationsRoute = createRoute({
  ...view('/violations'),
  component: lazyRouteComponent(() => import('./pages/violations.tsx'), 'Violations'),
  validateSearch: search({ state: oneOf('open', 'compensating', 'resolved'), id: text }),
})
export const effectsRoute = createRoute({
  ...view('/effects'),
  component: lazyRouteComponent(() => import('./pages/effects.tsx'), 'Effects'),
  validateSearch: search({ state: oneOf('pending', 'done', 'dead'), type: text, id: text }),
})
export const sendRoute = createRoute({
  ...view('/send'),
  component: lazyRouteComponent(() => import('./pages/send.tsx'), 'Send'),
  validateSearch: search({ type: text, id: text }),
})
export const auditRoute = createRoute({
  ...view('/audit'),
  component: lazyRouteComponent(() => import('./pages/audit.tsx'), 'Audit'),
  validateSearch: search({ id: text, principal: text }),
})
export const reprocessRoute = createRoute({
  ...view('/reprocess'),
  component: lazyRouteComponent(() => import('./pages/reprocess.tsx'), 'Reprocess'),
  validateSearch: search({ group: text }),
})

export const router = createRouter({
  routeTree: root.addChildren([
    overviewRoute,
    logRoute,
    requestRoute,
    tablesRoute,
    violationsRoute,
    effectsRoute,
    sendRoute,
    reprocessRoute,
    auditRoute,
  ]),
  basepath: consolePath,
  defaultPreload: 'intent',
  defaultErrorComponent: ViewFailed,
})

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router
  }
}

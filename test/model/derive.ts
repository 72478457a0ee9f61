import { Judging, type Send } from './judge.ts'
import { type AppPlan, base, type Op, type Place } from './plan.ts'
import {
  type Effect,
  type Granted,
  type Hold,
  identityOf,
  type Key,
  type Root,
  type Wanted,
} from './state.ts'

// One derivation: the operations of the random app, from docs/reference/app.md.

/** A derivation threw an error with this code. */
export class Thrown extends Error {
  readonly code: string

  constructor(code: string) {
    super(code)
    this.code = code
  }
}

export class Rejected {
  readonly reason: string

  constructor(reason: string) {
    this.reason = reason
  }
}

export interface Context {
  readonly plan: AppPlan
  readonly key: Key
  readonly now: number
  readonly root: Root
  readonly cause: string
  /** As in a message. */
  readonly depth: number
  /** Whether this is the `derive` of a request with strict claims, or a derivation that is no judge's either. */
  readonly isClaiming: boolean
  /** The request that is decided. */
  readonly own?: Hold
  /** Chooses one of so many. */
  readonly choose: (n: number) => number
  readonly send: Send
  readonly ask: (effect: Effect) => void
}

/** The version of the messages that an app writes. */
export function versionOf({ twist }: AppPlan): number {
  return twist.upcasts ? 2 : 1
}

/** The messages that a chain may have. */
const chainMax = 1_000

/** Runs operations; returns a rejection, or undefined. */
export function derive(context: Context, ops: readonly Op[]): Rejected | undefined {
  const { plan, key, now, root, cause, send, ask } = context
  const { twist, constraints } = plan
  const judging = new Judging(key, constraints, now, cause, send)
  const used = new Set<string>()
  const counted = new Map<string, number>()
  const holders = () => key.holds.filter(({ asking }) => !asking)

  /** The part of an id that differs between messages of one type. */
  function nameIn(type: string, name: string | undefined): string {
    if (name === undefined) {
      const n = counted.get(type) ?? 0
      counted.set(type, n + 1)
      return `${type}#${n}`
    }
    if (used.has(`${type} ${name}`)) throw new Thrown('event-key-reused')
    used.add(`${type} ${name}`)
    return `${type}:${name}`
  }

  function emit(to: Place, ops: readonly Op[], name?: string): void {
    const id = nameIn(`hop${to.s}`, name)
    if (context.depth >= chainMax) throw new Thrown('chain-too-deep')
    send({ kind: 'event', to, now, root, cause: `${cause}/${id}`, data: { k: to.k, ops } })
  }

  function demand(text: string, tag: { done: readonly Op[]; dead: readonly Op[] }, name?: string): void {
    const id = `${cause}/${nameIn('task', name)}`
    ask({
      id,
      input: { text, done: tag.done, dead: tag.dead },
      place: key.place,
      root,
      at: now,
      depth: context.depth,
      state: 'pending',
    })
  }

  /** Whether this derivation may use the judge of a constraint. */
  function judges(c: number): void {
    if (constraints[c]!.s !== key.place.s) throw new Thrown('scope-crossed')
    if (context.isClaiming) throw new Thrown('judge-while-claiming')
  }

  const touching = (c: number, at: string | undefined) => (each: { c: number; at: string }) =>
    each.c === c && (at === undefined || each.at === at)

  function run(all: readonly Op[]): Rejected | undefined {
    for (const op of all) {
      switch (op.do) {
        case 'note':
          key.lines.push(op.text + (twist.suffix ?? ''))
          break
        case 'who':
          key.lines.push(`${root.requestId} ${root.principal}`)
          break
        case 'now':
          key.lines.push(`now ${now - base}`)
          break
        case 'add':
          key.n = (key.n ?? 0) + op.by
          break
        case 'put':
          key.rows.set(op.sub, op.n)
          break
        case 'del':
          key.lines.push(`del ${op.sub} ${key.rows.delete(op.sub)}`)
          break
        case 'list':
          key.lines.push(
            `list ${[...key.rows]
              .sort(([a], [b]) => (a < b ? -1 : 1))
              .map((each) => each.join('='))
              .join()}`,
          )
          break
        case 'emit':
          if (op.tag === twist.echo) emit(op.to, [{ do: 'note', text: 'echo' }])
          if (op.tag !== twist.mute) emit(op.to, op.ops, op.name)
          break
        case 'set':
          key.timers.set(op.name, {
            at: now + op.in,
            ops: op.ops,
            version: versionOf(plan),
            root,
            cause: `ring ${op.name} ${now + op.in} by ${cause}`,
          })
          break
        case 'cancel':
          key.lines.push(`cancel ${op.name} ${key.timers.delete(op.name)}`)
          break
        case 'ask':
          if (op.tag === twist.more) demand(`more ${op.text}`, { done: [], dead: [] })
          if (op.tag !== twist.silent)
            demand(op.tag === twist.reword ? `${op.text} again` : op.text, op, op.name)
          break
        case 'release':
          key.lines.push(`release ${op.c} ${release(op)}`)
          break
        case 'waits': {
          const all = [...key.holds, ...(context.own ? [context.own] : [])].flatMap(({ claims }) => claims)
          key.lines.push(`waits ${op.c} ${all.some((each) => each.waiting && touching(op.c, op.at)(each))}`)
          break
        }
        case 'confirm': {
          let count = 0
          for (const hold of holders())
            for (const claim of hold.claims.filter(touching(op.c, op.at))) {
              if (claim.waiting) continue
              sendClaim('confirm', claim, hold.root)
              count++
            }
          key.lines.push(`confirm ${op.c} ${count}`)
          break
        }
        case 'usage':
          judges(op.c)
          key.lines.push(
            `usage ${op.c} ${judging.claimed(op.c)}/${judging.limit(op.c)} ${judging.excess(op.c)} ` +
              judging.judge(op.c).line.length,
          )
          break
        case 'limit':
        case 'adjust':
          judges(op.c)
          if (context.depth > chainMax) throw new Thrown('chain-too-deep')
          if (constraints[op.c]!.kind === 'unique') throw new Thrown('claim-invalid')
          if (op.do === 'limit') judging.setLimit(op.c, op.to)
          else judging.adjustLimit(op.c, op.by)
          break
        case 'settle': {
          judges(op.c)
          const gone: Granted[] = judging.settle(op.c)
          key.lines.push(`settle ${op.c} ${gone.reduce((sum, { units }) => sum + units, 0)}`)
          break
        }
        case 'reject':
          if (!twist.accepts) return new Rejected(op.reason)
          break
        case 'throw':
          if (!twist.mends) throw new Thrown('derivation-threw')
          break
        case 'spin':
        case 'dive':
          if (!twist.ends || op.tag !== 0)
            throw new Thrown(op.do === 'spin' ? 'derivation-too-long' : 'derivation-too-deep')
          break
        case 'if': {
          if ((key.n ?? 0) < op.min) break
          const rejected = run(op.ops)
          if (rejected) return rejected
        }
      }
    }
    return undefined
  }

  /** Releases claims, or units of them: of the latest request first, and last of those that wait. */
  function release({ c, at, units }: Extract<Op, { do: 'release' }>): number {
    const named = holders().flatMap((hold) =>
      hold.claims.filter(touching(c, at)).map((claim) => ({ hold, claim })),
    )
    const order = holders()
    if (units !== undefined)
      named.sort(
        (a, b) =>
          Number(a.claim.waiting ?? false) - Number(b.claim.waiting ?? false) ||
          order.indexOf(b.hold) - order.indexOf(a.hold),
      )
    // In which order all are released is open.
    else
      for (let i = 1; i < named.length; i++) {
        const [one] = named.splice(i, 1)
        named.splice(context.choose(i + 1), 0, one!)
      }
    let left = units ?? Number.POSITIVE_INFINITY
    let count = 0
    for (const { hold, claim } of named) {
      const less = Math.min(left, claim.units)
      if (less === 0) break
      left -= less
      count++
      const isWhole = less === claim.units
      sendClaim('release', claim, hold.root, isWhole ? undefined : less)
      hold.claims = hold.claims.flatMap((each) => {
        if (each !== claim) return [each]
        return isWhole ? [] : [{ ...claim, units: claim.units - less }]
      })
    }
    key.holds = key.holds.filter((each) => each.asking || each.claims.length > 0)
    return count
  }

  function sendClaim(kind: 'release' | 'confirm', { c, at }: Wanted, of: Root, units?: number): void {
    const cause = `claims of ${identityOf(of)}`
    const common = { c, to: { s: constraints[c]!.s, k: at }, now, root: of, cause }
    if (kind === 'confirm') send({ ...common, kind })
    else send({ ...common, kind, ...(units !== undefined && { units }) })
  }

  const rejected = run(ops)
  judging.end()
  return rejected
}

import type { ConstraintPlan, Place } from './plan.ts'
import type { Granted, Judge, Key, Message, Root, Violation, Waiter, Wanted } from './state.ts'
import { identityOf } from './state.ts'

// The judge of claims, from docs/how-to/constraints.md and docs/explanation/constraints.md.

export type Send = (message: Message) => void

/** The judging half of one key, for one record at one time. */
export class Judging {
  readonly #key: Key
  readonly #plans: readonly ConstraintPlan[]
  readonly #now: number
  readonly #send: Send
  readonly #cause: string
  readonly #opened = new Map<number, number>()
  readonly #undecided = new Set<Violation>()

  /** @param cause names the derivation that judges */
  constructor(key: Key, plans: readonly ConstraintPlan[], now: number, cause: string, send: Send) {
    this.#cause = cause
    this.#key = key
    this.#plans = plans
    this.#now = now
    this.#send = send
  }

  judge(c: number): Judge {
    let judge = this.#key.judges.get(c)
    if (!judge) {
      judge = { set: undefined, adjusted: 0, settled: false, waived: 0, claims: [], line: [], count: 0 }
      this.#key.judges.set(c, judge)
    }
    return judge
  }

  limit(c: number): number {
    const { set, adjusted } = this.judge(c)
    return Math.max(0, (set ?? this.#plans[c]!.limit) + adjusted)
  }

  claimed(c: number): number {
    return this.judge(c).claims.reduce((sum, { units }) => sum + units, 0)
  }

  /** The limit and the margin above it. */
  #allowed(c: number): number {
    const limit = this.limit(c)
    if (this.judge(c).settled) return limit
    const { overbook } = this.#plans[c]!
    return limit + (typeof overbook === 'number' ? overbook : Math.floor((limit * overbook.percent) / 100))
  }

  /** A claim arrives. A strict one is granted if it fits, a loose one always; either may wait instead. */
  claim(want: Wanted, root: Root, holder: Place): 'granted' | 'denied' | 'waits' {
    const { c, strict, priority, instead, wait } = want
    const judge = this.judge(c)
    const replaced = judge.claims.filter((each) => (instead ?? []).some(isOf(each)))
    const units = Math.max(
      0,
      replaced.reduce((rest, each) => rest - each.units, want.units),
    )
    // Nobody overtakes the line, and the first in it may take less instead.
    const [first] = judge.line.toSorted((a, b) => a.n - b.n)
    const isNext = !first || (instead ?? []).some(isOf(first))
    const fits = isNext && this.claimed(c) + units <= this.#allowed(c)
    const n = judge.count++
    if (wait && !fits) {
      this.#queue(c, { root, holder, units, priority, n })
      if (!strict) this.#sendQueued(c, root, holder, null, this.#cause)
      return 'waits'
    }
    if (strict && units > 0 && !fits) return 'denied'
    const confirmed = replaced.some((each) => each.confirmed)
    const granted = { root, holder, units, priority, n, confirmed }
    judge.claims.push(instead ? { ...granted, exchanging: true } : granted)
    if (!strict) this.review(c)
    return 'granted'
  }

  #queue(c: number, waiter: Omit<Waiter, 'id'>): void {
    this.judge(c).line.push({ ...waiter, id: `${this.#cause}/wait c${c} ${identityOf(waiter.root)}` })
  }

  #sendQueued(c: number, root: Root, to: Place, violation: string | null, of: string): void {
    const cause = `${of}/queued ${to.k} ${identityOf(root)}`
    this.#send({ ...this.#common(to, root), cause, kind: 'queued', c, at: this.#key.place.k, violation })
  }

  #sendLost(c: number, root: Root, to: Place, violation: string | null, of: string): void {
    const cause = `${of}/compensate ${to.k} ${identityOf(root)}`
    this.#send({ ...this.#common(to, root), cause, kind: 'compensate', c, at: this.#key.place.k, violation })
  }

  /** Free units go to the line, the first first; one that does not fit holds up the rest. */
  #serve(c: number): void {
    const judge = this.judge(c)
    for (;;) {
      const room = this.#allowed(c) - this.claimed(c)
      const first = judge.line.toSorted((a, b) => a.n - b.n)[0]
      if (!first || room <= 0 || first.units > room) return
      const { id, root, holder, units, priority, n } = first
      const { confirmMs } = this.#plans[c]!.waitingList ?? {}
      const confirmBy = confirmMs === undefined ? undefined : this.#now + confirmMs
      judge.line = judge.line.filter((each) => each !== first)
      judge.claims.push({
        root,
        holder,
        units,
        priority,
        n,
        confirmed: false,
        wait: id,
        ...(confirmBy && { confirmBy }),
      })
      this.#send({
        ...this.#common(holder, root),
        cause: `${id}/served ${holder.k}`,
        kind: 'served',
        c,
        at: this.#key.place.k,
        confirmBy: confirmBy ?? null,
      })
    }
  }

  /** The claim of an accepted request takes the place of others. */
  exchange(want: Wanted, root: Root, holder: Place): void {
    const { c, strict, units, priority, instead = [] } = want
    const judge = this.judge(c)
    const own = judge.claims.find(isOf({ root }))
    const gone = judge.claims.filter((each) => each === own || instead.some(isOf(each)))
    judge.claims = judge.claims.filter((each) => !gone.includes(each))
    const left = judge.line.filter((each) => instead.some(isOf(each)))
    judge.line = judge.line.filter((each) => !left.includes(each))
    const had = gone.reduce((sum, each) => sum + each.units, 0)
    const n = Math.min(own ? own.n : judge.count++, ...[...gone, ...left].map((each) => each.n))
    const isFree = judge.line.length === 0 && this.claimed(c) + units <= this.#allowed(c)
    if (own && strict && units > had && !isFree) {
      // The claims that it was to replace have given way, and are not free: so it gives way itself.
      if (this.#plans[c]!.waitingList?.victims) {
        this.#queue(c, { root, holder, units, priority, n })
        this.#sendQueued(c, root, holder, null, this.#cause)
      } else this.#sendLost(c, root, holder, null, this.#cause)
    } else if (own || !strict) {
      judge.claims.push({ root, holder, units, priority, n, confirmed: gone.some((each) => each.confirmed) })
    }
    this.review(c)
  }

  release(c: number, root: Root, units = Number.POSITIVE_INFINITY): void {
    const judge = this.judge(c)
    const less = <T extends Granted | Waiter>(all: readonly T[]): T[] =>
      all.flatMap((each) => {
        if (!isOf(each)({ root })) return [each]
        return each.units > units ? [{ ...each, units: each.units - units }] : []
      })
    if (judge.claims.some(isOf({ root }))) judge.claims = less(judge.claims)
    else judge.line = less(judge.line)
    this.review(c)
  }

  /** A served claim was not confirmed in time. */
  unconfirmed(c: number, root: Root): void {
    const judge = this.judge(c)
    const claim = judge.claims.find(isOf({ root }))
    if (!claim || claim.confirmed) return
    judge.claims = judge.claims.filter((each) => each !== claim)
    this.#sendLost(c, root, claim.holder, null, this.#cause)
    this.review(c)
  }

  confirm(c: number, root: Root): void {
    for (const each of this.judge(c).claims)
      if (identityOf(each.root) === identityOf(root)) each.confirmed = true
  }

  setLimit(c: number, limit: number): void {
    const judge = this.judge(c)
    judge.set = limit
    judge.adjusted = 0
    this.review(c, true)
  }

  adjustLimit(c: number, by: number): void {
    const limit = this.limit(c)
    this.judge(c).adjusted += Math.max(0, limit + by) - limit
    this.review(c, true)
  }

  settle(c: number): Granted[] {
    const judge = this.judge(c)
    const gone = judge.claims.filter(({ confirmed }) => !confirmed)
    judge.claims = judge.claims.filter(({ confirmed }) => confirmed)
    judge.settled = true
    this.#serve(c)
    for (const { root, holder } of gone)
      this.#send({ ...this.#common(holder, root), kind: 'lapse', c, at: this.#key.place.k })
    this.review(c, true)
    return gone
  }

  #common(to: Place, root: Root) {
    return { to, now: this.#now, root, cause: `claims of ${identityOf(root)}` }
  }

  #open(c: number): Violation | undefined {
    return this.#key.violations.find((each) => each.c === c && each.state === 'open')
  }

  excess(c: number): number {
    const over = Math.max(0, this.claimed(c) - this.#allowed(c))
    const judge = this.judge(c)
    judge.waived = Math.min(judge.waived, over)
    return over - judge.waived
  }

  /** Compares what is claimed with the limit; opens, changes or clears a violation. Then the line is served. */
  review(c: number, isOfApp = false): void {
    this.#review(c, isOfApp)
    this.#serve(c)
  }

  #review(c: number, isOfApp: boolean): void {
    const excess = this.excess(c)
    const open = this.#open(c)
    const at = this.#now
    if (open) {
      if (excess === 0) {
        if (open.victims.length > 0 || open.history.at(-1)!.by) this.#end(open)
        else {
          open.history.push({ at, what: 'cleared' })
          open.state = 'resolved'
        }
      } else if (excess > open.excess) {
        const last = open.history.at(-1)!
        if (last.what === 'grew') open.history.pop()
        open.history.push({ at, what: 'grew', units: excess })
      }
      open.excess = excess
      if (isOfApp && excess > 0 && this.#plans[c]!.review === 'auto') this.#undecided.add(open)
      return
    }
    if (excess === 0) return
    const { review, deadlineMs } = this.#plans[c]!
    const n = this.#opened.get(c) ?? 0
    this.#opened.set(c, n + 1)
    const violation: Violation = {
      // Named by what caused it, whatever else this key has.
      id: `${this.#cause}/violation c${c} ${this.#key.place.k} ${n}`,
      c,
      at,
      state: 'open',
      excess,
      deadline: review === 'human' ? at + deadlineMs : null,
      victims: [],
      history: [{ at, what: 'noticed', units: excess }],
    }
    this.#key.violations.push(violation)
    if (review === 'auto' && isOfApp) this.#undecided.add(violation)
    else if (review === 'auto') this.#choose(violation)
  }

  /** A derivation of the app has returned: the policy decides the excess that it made. */
  end(): void {
    for (const violation of this.#undecided)
      if (violation.state === 'open') {
        this.#choose(violation)
        this.#serve(violation.c)
      }
    this.#undecided.clear()
  }

  /** The policy chooses victims until the rest fits. */
  #choose(violation: Violation): void {
    const { c } = violation
    const { victims } = this.#plans[c]!
    const inOrder = this.judge(c).claims.filter(({ units }) => units > 0)
    inOrder.sort((a, b) => {
      if (a.confirmed !== b.confirmed) return a.confirmed ? 1 : -1
      if (victims === 'oldest') return a.n - b.n
      if (victims === 'lowest-priority' && a.priority !== b.priority) return a.priority - b.priority
      return b.n - a.n
    })
    violation.history.push({ at: this.#now, what: 'victims-chosen' })
    for (const claim of inOrder) {
      if (this.excess(c) === 0) break
      this.#take(violation, claim)
    }
    violation.excess = this.excess(c)
    violation.state = 'compensating'
    this.#endIfDone(violation)
  }

  #take(violation: Violation, claim: Granted): void {
    const { c } = violation
    const judge = this.judge(c)
    judge.claims = judge.claims.filter((each) => each !== claim)
    const { root, holder, units, priority, n, exchanging } = claim
    const waits = this.#plans[c]!.waitingList?.victims === true && !exchanging
    violation.victims.push({ root, key: holder.k, units, state: waits ? 'queued' : 'told' })
    if (waits) {
      this.#queue(c, { root, holder, units, priority, n })
      this.#sendQueued(c, root, holder, violation.id, violation.id)
    } else this.#sendLost(c, root, holder, violation.id, violation.id)
  }

  #end(violation: Violation): void {
    violation.state = 'compensating'
    this.#endIfDone(violation)
  }

  #endIfDone(violation: Violation): void {
    if (violation.state !== 'compensating') return
    if (violation.victims.some(({ state }) => state === 'told')) return
    violation.state = 'resolved'
    violation.history.push({ at: this.#now, what: 'resolved' })
  }

  compensated(id: string, root: Root, state: 'compensated' | 'released' | 'failed'): void {
    const violation = this.#key.violations.find((each) => each.id === id)!
    const victim = violation.victims.find(
      (each) => identityOf(each.root) === identityOf(root) && each.state === 'told',
    )!
    victim.state = state
    this.#endIfDone(violation)
  }

  deadline(id: string): void {
    const violation = this.#key.violations.find((each) => each.id === id)!
    if (violation.state !== 'open') return
    violation.history.push({ at: this.#now, what: 'deadline-passed' })
    this.#choose(violation)
    this.#serve(violation.c)
  }

  /** An operator decides. Returns the reason of a rejection. */
  resolve(
    decision: {
      violation: string
      action: 'compensate' | 'choose' | 'waive' | 'raise-limit'
      units?: number
      victims?: readonly Root[]
    },
    by: Root,
  ): string | undefined {
    const violation = this.#key.violations.find((each) => each.id === decision.violation)
    if (!violation) return 'violation-unknown'
    if (violation.state !== 'open') return 'violation-not-open'
    const { c } = violation
    const judge = this.judge(c)
    const at = this.#now
    if (decision.action === 'compensate') {
      violation.history.push({ at, what: 'compensate', by })
      this.#choose(violation)
    } else if (decision.action === 'waive') {
      violation.history.push({ at, what: 'waive', by })
      judge.waived += this.excess(c)
      violation.excess = 0
      this.#end(violation)
    } else if (decision.action === 'raise-limit') {
      if (this.#plans[c]!.kind === 'unique') return 'limit-fixed'
      violation.history.push({ at, what: 'raise-limit', by })
      judge.adjusted += decision.units ?? violation.excess
      violation.excess = this.excess(c)
      if (violation.excess === 0) this.#end(violation)
    } else {
      const chosen = (decision.victims ?? []).map((root) =>
        judge.claims.find((each) => identityOf(each.root) === identityOf(root)),
      )
      if (chosen.includes(undefined)) return 'victim-unknown'
      violation.history.push({ at, what: 'choose', by })
      violation.history.push({ at, what: 'victims-chosen' })
      for (const claim of chosen) this.#take(violation, claim!)
      violation.excess = this.excess(c)
      if (violation.excess === 0) this.#end(violation)
    }
    this.#serve(c)
    return undefined
  }
}

/** Whether something is of the same request. */
function isOf({ root }: { readonly root: Root }): (other: Root | { readonly root: Root }) => boolean {
  return (other) => identityOf('root' in other ? other.root : other) === identityOf(root)
}

import { type Context, derive, Rejected, Thrown, versionOf } from './derive.ts'
import { Judging } from './judge.ts'
import type { AppPlan, Op, Place, RunInput } from './plan.ts'
import {
  type Effect,
  type Hold,
  identityOf,
  type Key,
  keyOf,
  type Message,
  newKey,
  type Outcome,
  type Recorded,
  type Root,
  type State,
  type Violation,
  type Wanted,
} from './state.ts'

// The semantics of Hence, written from its documentation alone: one record after the other in each partition,
// events at once within a partition and in channels between partitions, claims, timers, effects. It shares no
// code with `src`.

/** CRC-32 of the UTF-8 bytes of a key, as in zlib, modulo the number of partitions. */
export function partitionOf(key: string, partitions: number): number {
  let crc = 0xffffffff
  for (const byte of new TextEncoder().encode(key)) {
    crc ^= byte
    for (let i = 0; i < 8; i++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0)
  }
  return ((crc ^ 0xffffffff) >>> 0) % partitions
}

export function newState(partitions: number, now: number): State {
  return {
    now,
    partitions: Array.from({ length: partitions }, () => ({
      channels: Array.from({ length: partitions }, () => []),
      moved: Array.from({ length: partitions }, () => []),
      requests: [],
      loose: [],
    })),
    keys: new Map(),
    effects: new Map(),
    early: new Map(),
    outcomes: new Map(),
    requests: new Map(),
    failures: [],
    decided: new Map(),
    records: new Map(),
  }
}

/** Chooses one of `n` orders that Hence leaves open. */
export type Choose = (n: number) => number

const takenMax = 50_000
/** How long the receivers of effects remember ids. */
const rememberedMs = 24 * 3_600_000

export class Model {
  readonly state: State
  readonly plan: AppPlan
  /** Results that came at once. */
  readonly recorded: Recorded[] = []
  /** How many messages were applied or parked. */
  taken = 0
  /** Whether its effects are sent, and its timers have ticks. */
  isLive = true
  /** Is called with each key that a message was derived for. */
  watch: (key: Key) => void = () => {}
  #choose: Choose = () => 0

  constructor(plan: AppPlan, state: State) {
    this.plan = plan
    this.state = state
  }

  key(place: Place): Key {
    let key = this.state.keys.get(keyOf(place))
    if (!key) {
      key = newKey(place)
      this.state.keys.set(keyOf(place), key)
    }
    return key
  }

  /** A request that waits holds up its partition key, in all scopes. */
  #gate({ k }: Place): Key {
    return this.key({ s: 0, k })
  }

  #partition(place: Place): number {
    return partitionOf(place.k, this.state.partitions.length)
  }

  /** Adds a request to the log; requests of one partition are added in the order of the log. */
  request(sent: Message): void {
    const [source, message] = [this.#partition(sent.to), this.#moved(sent)]
    const target = this.#partition(message.to)
    const { requests, moved } = this.state.partitions[target]!
    // Where another partition has the log of it, it comes from there, at no certain place among its events.
    if (target === source || this.isLive) requests.push(message)
    else moved[source]!.push(message)
  }

  #moved(message: Message): Message {
    const { s, k } = message.to
    const { moves } = this.plan.twist
    if (message.kind !== 'request' || moves === undefined || !k.endsWith(moves)) return message
    return { ...message, to: { s, k: `${k}m` } }
  }

  /** Operations as they are in a message of this version. */
  #upcast(ops: readonly Op[], version: number): readonly Op[] {
    return version === versionOf(this.plan) ? ops : [...ops, { do: 'note', text: 'older' }]
  }

  /** Adds the result of an effect to the log. */
  result(of: Recorded): void {
    const message = this.#resultOf(of, this.state.now)
    this.state.partitions[this.#partition(message.to)]!.loose.push(message)
  }

  /** Some effects are answered at once. */
  #answer(effect: Effect): void {
    if (effect.state !== 'pending' || !this.isLive || !effect.input.text.includes('*')) return
    const { id, input, place, root, redriven: n = 0 } = effect
    const end = { done: true, got: 'ok' } as const
    const recorded: Recorded = { id, n, input, place, root, end, at: this.state.now }
    this.recorded.push(recorded)
    this.result(recorded)
  }

  /** The candidate is live from here on. */
  begin(): void {
    this.isLive = true
    for (const effect of this.state.effects.values()) this.#answer(effect)
  }

  #resultOf(of: Recorded, now: number): Message {
    // Other code may have asked for it at another key.
    const { depth = 0, place } = this.state.effects.get(of.id) ?? of
    return {
      kind: 'result',
      to: place,
      now,
      root: of.root,
      cause: `${of.id}/end ${of.n}`,
      depth: depth + 1,
      of,
    }
  }

  /** When the next timer is due; if it is derived again, also when the log has its next record. */
  get nextDue(): number | undefined {
    const all = this.#timers().map(({ at }) => at)
    if (!this.isLive) all.push(...this.state.records.keys())
    const later = all.filter((at) => at > this.state.now)
    return later.length === 0 ? undefined : Math.min(...later)
  }

  /**
   * Whether a timer of a partition may wait for a later record. Only other code sets one for a time at which
   * the log has no record of this case; it may have one of another case.
   * @param isOver as for `settle`
   */
  #isOpen(p: number, isOver: boolean): boolean {
    const { records, now, partitions } = this.state
    if (this.isLive || (isOver && records.get(now)?.has(p))) return false
    const { requests, loose, channels, moved } = partitions[p]!
    return [requests, loose, ...channels, ...moved].every(({ length }) => length === 0)
  }

  /** Timers of the app and deadlines of violations, of keys that do not wait. Each has the time of its record. */
  #timers(): { readonly at: number; readonly p: number; readonly fire: () => Message }[] {
    const all: { at: number; p: number; fire: () => Message }[] = []
    for (const key of this.state.keys.values()) {
      const to = key.place
      const p = this.#partition(to)
      if (this.#gate(to).waiting === undefined)
        for (const [name, { at, ops, version, root, cause }] of key.timers)
          all.push({
            at,
            p,
            fire: () => {
              key.timers.delete(name)
              return { kind: 'timer', to, now: this.state.now, root, cause, depth: 1, ops, version }
            },
          })
      for (const [c, judge] of key.judges)
        for (const { root, confirmed, confirmBy, wait } of judge.claims)
          if (confirmBy !== undefined && !confirmed) {
            const cause = `${wait}/unconfirmed`
            const message: Message = {
              kind: 'unconfirmed',
              to,
              now: this.state.now,
              root,
              cause,
              depth: 1,
              c,
            }
            all.push({ at: confirmBy, p, fire: () => message })
          }
      for (const { state, deadline, id } of key.violations)
        if (state === 'open' && deadline !== null) {
          const root = { requestId: '', principal: '' }
          const message: Message = {
            kind: 'deadline',
            to,
            now: this.state.now,
            root,
            cause: `deadline ${id}`,
            depth: 1,
            violation: id,
          }
          all.push({ at: deadline, p, fire: () => message })
        }
    }
    return all
  }

  /**
   * Applies everything that is under way or due, in an order that is chosen where Hence leaves it open.
   * @param isOver whether all records of this time are there
   */
  settle(choose: Choose, isOver = true): void {
    this.#choose = choose
    const waits = new Map<number, boolean>()
    for (;;) {
      const moves: (() => void)[] = []
      const due = this.#timers().filter(({ at }) => at <= this.state.now)
      this.state.partitions.forEach((partition, p) => {
        // Timers fire before the first record that is late enough, the earliest first.
        const mine = due.filter((each) => each.p === p)
        if (mine.length > 0 && this.#isOpen(p, isOver)) {
          if (!waits.has(p)) waits.set(p, choose(2) === 1)
          if (waits.get(p)) return
        }
        const first = Math.min(...mine.map(({ at }) => at))
        for (const timer of mine)
          if (timer.at === first) moves.push(() => this.#step(p, timer.fire(), choose))
        if (mine.length > 0) return
        if (partition.requests.length > 0)
          moves.push(() => this.#step(p, partition.requests.shift()!, choose))
        for (const channel of [...partition.channels, ...partition.moved])
          if (channel.length > 0) moves.push(() => this.#step(p, channel.shift()!, choose))
        partition.loose.forEach((message, i) => {
          moves.push(() => {
            partition.loose.splice(i, 1)
            // The effect may have been asked for meanwhile, at another key than by other code.
            const found = message.kind === 'result' ? this.#resultOf(message.of, message.now) : message
            const target = this.#partition(found.to)
            if (target === p) this.#step(p, found, choose)
            else this.state.partitions[target]!.loose.push(found)
          })
        })
      })
      if (moves.length === 0) return
      moves[moves.length === 1 ? 0 : choose(moves.length)]!()
    }
  }

  /** One record: with its events within the partition, and what it releases. */
  #step(p: number, first: Message, choose: Choose): void {
    const { records, now } = this.state
    if (this.isLive) records.set(now, (records.get(now) ?? new Set()).add(p))
    const queue = [first]
    const early: Message[] = []
    // Messages that the derivations of a key have sent to that key.
    const own = new Set<Message>()
    let current = first
    const released: Place[] = []
    const send = (sent: Message) => {
      // A verdict goes on with its request, at the beginning of the chain.
      const depth = current.kind === 'verdict' ? 1 : (current.depth ?? 0) + 1
      const message = { ...sent, depth, from: current.to.k }
      const target = this.#partition(message.to)
      if (message.to.k === current.to.k && !(isAnswer(message) && current.kind !== 'verdict'))
        own.add(message)
      if (target === p) (message.kind === 'result' ? early : queue).push(message)
      else this.state.partitions[target]!.channels[p]!.push({ ...message, now: this.state.now })
    }
    for (;;) {
      const key = released
        .map((place) => this.#gate(place))
        .find(({ waiting, parked }) => waiting === undefined && parked.length > 0)
      const isLast = queue.length === 0 && !key
      if (isLast && early.length === 0) return
      // A result that came before stands right after what asks; between messages of other keys that is open.
      if (early.length > 0 && (isLast || choose(2) === 1)) {
        current = early.shift()!
        this.#take(current, send, released)
        continue
      }
      // Messages of a key to itself precede what waited behind its request; those of others may come between.
      const isOpen = key && queue.length > 0 && !queue.some((each) => own.has(each) && !isOfClaims(each))
      const isReleased = queue.length === 0 || (isOpen && choose(2) === 1)
      if (!isReleased && this.#waits(queue[0]!, own, released, choose)) {
        this.#gate(queue[0]!.to).parked.push(queue.shift()!)
        continue
      }
      current = isReleased ? key!.parked.shift()! : queue.shift()!
      this.#take(current, send, released, isReleased)
    }
  }

  /**
   * Whether a message for a key whose request has just ended waits behind what waited, and behind what that
   * sends. It must not come before others of its source; before those of other sources it may.
   */
  #waits(message: Message, own: ReadonlySet<Message>, released: readonly Place[], choose: Choose): boolean {
    const { waiting, parked } = this.#gate(message.to)
    if (waiting !== undefined || own.has(message) || passes(message, '')) return false
    if (!released.some(({ k }) => k === message.to.k)) return false
    return parked.some(({ from }) => from === message.from) || choose(2) === 1
  }

  /** A message arrives at its key: it passes, or waits behind a request that waits for verdicts. */
  #take(message: Message, send: (message: Message) => void, released: Place[], isReleased = false) {
    if (++this.taken > takenMax) throw new Error('The model does not come to rest.')
    // No other code is bound by it, and nothing of the request is derived, not even its claims.
    if (message.kind === 'request' && isEqual(message.ruledOut, this.plan)) {
      const outcome = { status: 'failed', code: 'derivation-ruled-out' } as const
      this.state.outcomes.set(identityOf(message.root), outcome)
      return
    }
    const key = this.key(message.to)
    // One that waited has ended its effect when it came.
    if (message.kind === 'result' && !isReleased) {
      const { id, input, end } = message.of
      const effect = this.state.effects.get(id)
      if (!effect) this.state.early.set(id, [...(this.state.early.get(id) ?? []), message.of])
      // A result reaches the input that it answers, and no other.
      if (!effect || !isEqual(effect.input, input)) return
      // Other code may have refused to send a dead effect again; that it was done stays true.
      if (effect.state === 'done' || (effect.state === 'dead' && !end.done)) return
      effect.state = end.done ? 'done' : 'dead'
      effect.result = end.done ? end.got : end.error
    }
    const gate = this.#gate(message.to)
    if (gate.waiting !== undefined && !passes(message, gate.waiting)) {
      gate.parked.push(message)
      return
    }
    const before = gate.waiting
    this.#apply(key, message, send)
    this.watch(this.key(message.to))
    const after = this.#gate(message.to)
    if (before !== undefined && after.waiting === undefined) released.push(message.to)
  }

  #apply(key: Key, message: Message, send: (message: Message) => void) {
    const judging = new Judging(key, this.plan.constraints, message.now, message.cause, send)
    const { root } = message
    switch (message.kind) {
      case 'request':
        return this.#request(key, message, send)
      case 'resolve': {
        const reason = judging.resolve(message.decision, root)
        const outcome: Outcome =
          reason === undefined ? { status: 'accepted', value: null } : { status: 'rejected', reason }
        this.state.outcomes.set(identityOf(root), outcome)
        return
      }
      case 'redrive':
        return this.#redrive(message)
      case 'event':
        return this.#react(message, message.data.ops, send)
      case 'timer':
        return this.#react(message, this.#upcast(message.ops, message.version), send)
      case 'result': {
        const { end, input } = message.of
        const text = end.done ? `done ${input.text} ${end.got}` : `dead ${input.text} ${end.error}`
        return this.#react(message, [{ do: 'note', text }, ...(end.done ? input.done : input.dead)], send)
      }
      case 'correction': {
        if (this.plan.corrects) key.fixes.set(message.what, (key.fixes.get(message.what) ?? 0) + 1)
        return
      }
      case 'claim': {
        const { want, holder } = message
        const verdict = judging.claim(want, root, holder)
        if (want.strict)
          send({ kind: 'verdict', to: holder, now: message.now, root, cause: message.cause, want, verdict })
        return
      }
      case 'exchange':
        return judging.exchange(message.want, root, message.holder)
      case 'unconfirmed':
        return judging.unconfirmed(message.c, root)
      case 'queued':
      case 'served':
        return this.#line(key, message, send)
      case 'release':
        return judging.release(message.c, root, message.units)
      case 'confirm':
        return judging.confirm(message.c, root)
      case 'compensated':
        return judging.compensated(message.violation, root, message.state)
      case 'deadline':
        return judging.deadline(message.violation)
      case 'verdict':
        return this.#verdict(key, message, send)
      case 'lapse': {
        const hold = holdOf(key, root)
        if (!hold) return
        hold.claims = hold.claims.filter((each) => each.c !== message.c || each.at !== message.at)
        if (hold.asking) this.#refuse(key, hold, message, send)
        else if (hold.claims.length === 0) remove(key, hold)
        return
      }
      case 'compensate':
        return this.#compensate(key, message, send)
    }
  }

  /** An operator's request to deliver a dead effect again. */
  #redrive({ to, now, root, of }: Message & { kind: 'redrive' }): void {
    const effect = this.state.effects.get(of.effect)
    const reason =
      effect?.place.k !== to.k
        ? 'effect-unknown'
        : effect.state !== 'dead'
          ? 'effect-not-dead'
          : !of.mayRepeat && now > effect.at + rememberedMs
            ? 'effect-may-repeat'
            : undefined
    this.state.outcomes.set(
      identityOf(root),
      reason === undefined ? { status: 'accepted', value: null } : { status: 'rejected', reason },
    )
    if (!effect || reason !== undefined) return
    effect.state = 'pending'
    effect.redriven = (effect.redriven ?? 0) + 1
    this.#answer(effect)
  }

  #request(key: Key, message: Message & { kind: 'request' }, send: (message: Message) => void) {
    const { root, input, version, now, cause } = message
    this.state.requests.set(identityOf(root), message.to)
    const claims = this.#wanted(key, input)
    const hold: Hold = { root, input, version, asking: true, granted: 0, claims, now, cause }
    if (!hold.claims.some(({ strict }) => strict)) return this.#decide(key, hold, send)
    key.holds.push(hold)
    this.#gate(key.place).waiting = identityOf(root)
    this.#ask(key, hold, send)
  }

  /** Several claims on one key are one. Strict ones come first; then by constraint, then by key. */
  #wanted({ holds }: Key, { claims }: RunInput): Wanted[] {
    const merged = new Map<string, Wanted>()
    for (const { c, at, units, priority, exchange, wait } of claims) {
      const { mode, waitingList } = this.plan.constraints[c]!
      const before = merged.get(`${c} ${at}`)
      const others = holds.filter(({ asking, claims }) => !asking && claims.some(isOn({ c, at })))
      merged.set(`${c} ${at}`, {
        c,
        at,
        units: units + (before?.units ?? 0),
        priority,
        strict: mode === 'strict',
        ...(exchange && others.length > 0 && { instead: others.map(({ root }) => root) }),
        ...(wait && waitingList && { wait: true }),
      })
    }
    return [...merged.values()].sort((a, b) => {
      if (a.strict !== b.strict) return a.strict ? -1 : 1
      return a.c !== b.c ? a.c - b.c : a.at < b.at ? -1 : 1
    })
  }

  #claim(key: Key, hold: Hold, want: Wanted, send: (message: Message) => void): void {
    const { root, now } = hold
    const cause = `${hold.cause}/claim ${want.c} ${want.at}`
    send({ kind: 'claim', to: this.#judgeOf(want), now, root, cause, want, holder: key.place })
  }

  #judgeOf({ c, at }: { readonly c: number; readonly at: string }): Place {
    return { s: this.plan.constraints[c]!.s, k: at }
  }

  #ask(key: Key, hold: Hold, send: (message: Message) => void) {
    this.#claim(key, hold, hold.claims[hold.granted]!, send)
  }

  #giveBack(claims: readonly Wanted[], { root, now }: Hold, send: (message: Message) => void): void {
    const cause = `claims of ${identityOf(root)}`
    for (const want of claims) send({ kind: 'release', c: want.c, to: this.#judgeOf(want), now, root, cause })
  }

  #verdict(key: Key, message: Message & { kind: 'verdict' }, send: (message: Message) => void) {
    const hold = holdOf(key, message.root)
    const { want, verdict } = message
    if (!hold?.asking) {
      // The request gave way while this claim was judged.
      if (verdict !== 'denied')
        send({
          kind: 'release',
          c: want.c,
          to: this.#judgeOf(want),
          now: message.now,
          root: message.root,
          cause: message.cause,
        })
      return
    }
    if (verdict === 'denied') {
      hold.claims = hold.claims.slice(0, hold.granted)
      return this.#refuse(key, hold, want, send)
    }
    if (verdict === 'waits') hold.claims[hold.granted] = { ...hold.claims[hold.granted]!, waiting: true }
    hold.granted++
    if (hold.claims[hold.granted]?.strict) return this.#ask(key, hold, send)
    remove(key, hold)
    this.#gate(key.place).waiting = undefined
    this.#decide(key, hold, send)
  }

  /** A request that still asks is rejected, and gives back what it was granted. */
  #refuse(
    key: Key,
    hold: Hold,
    { c, at }: { readonly c: number; readonly at: string },
    send: (message: Message) => void,
  ): void {
    this.#giveBack(
      hold.claims.filter(({ strict }, i) => strict && i < hold.granted),
      hold,
      send,
    )
    remove(key, hold)
    this.#gate(key.place).waiting = undefined
    this.state.outcomes.set(identityOf(hold.root), {
      status: 'rejected',
      reason: `c${c}`,
      details: { key: at },
    })
  }

  #decide(key: Key, hold: Hold, send: (message: Message) => void) {
    const { root, input, now, cause, claims } = hold
    const strict = claims.filter((each) => each.strict)
    const outcome = this.#derive(
      key.place,
      { now, root, cause, depth: 0, isClaiming: strict.length > 0, own: hold },
      this.#upcast(input.ops, hold.version),
      send,
    )
    this.state.outcomes.set(identityOf(root), outcome)
    // A derivation that was undone has given the key its former content.
    const after = this.key(key.place)
    if (outcome.status !== 'accepted') return this.#giveBack(strict, hold, send)
    if (claims.length === 0) return
    hold.asking = false
    after.holds.push(hold)
    for (const want of claims) {
      const { c, at, instead, strict, waiting } = want
      const on = { to: this.#judgeOf(want), now, root }
      for (const each of instead ?? []) {
        const other = holdOf(after, each)
        if (!other) continue
        other.claims = other.claims.filter((claim) => !isOn(want)(claim))
        if (other.claims.length === 0) remove(after, other)
      }
      if (instead)
        send({ ...on, kind: 'exchange', cause: `${cause}/exchange ${c} ${at}`, want, holder: key.place })
      else if (!strict) this.#claim(after, hold, want, send)
      else if (waiting)
        send({
          ...on,
          to: key.place,
          kind: 'queued',
          cause: `${cause}/queued ${key.place.k} ${c} ${at}`,
          c,
          at,
          violation: null,
        })
    }
    hold.claims = claims.map(({ instead: _, wait: __, ...claim }) => claim)
  }

  /** A claim of a request waits, or got what it waited for. */
  #line(key: Key, message: Message & { kind: 'queued' | 'served' }, send: (message: Message) => void) {
    const { kind, root, c, at } = message
    const hold = holdOf(key, root)
    if (!hold?.claims.some(isOn(message))) return
    hold.claims = hold.claims.map((each) => {
      if (!isOn(message)(each)) return each
      const { waiting: _, ...claim } = each
      return kind === 'queued' ? { ...claim, waiting: true } : claim
    })
    const { queued = [], served = [] } = hold.input
    const ops: Op[] =
      message.kind === 'queued'
        ? [
            { do: 'note', text: `queued c${c} ${at} ${message.violation === null ? 'asked' : 'victim'}` },
            ...this.#upcast(queued, hold.version),
          ]
        : [
            { do: 'note', text: `served c${c} ${at} ${message.confirmBy}` },
            ...this.#upcast(served, hold.version),
          ]
    this.#react({ ...message, to: key.place }, ops, send)
  }

  #compensate(key: Key, message: Message & { kind: 'compensate' }, send: (message: Message) => void) {
    const { root, c, at, violation, now } = message
    const answer = (state: 'compensated' | 'released' | 'failed') => {
      if (violation === null) return
      send({
        kind: 'compensated',
        to: this.#judgeOf({ c, at }),
        now,
        root,
        cause: message.cause,
        violation,
        state,
      })
    }
    const hold = holdOf(key, root)
    const isHeld = hold?.claims.some(
      (each, i) => each.c === c && each.at === at && (!hold.asking || i < hold.granted),
    )
    if (!hold || !isHeld) return answer('released')
    if (hold.asking) {
      const granted = hold.claims.slice(0, hold.granted)
      hold.claims = granted.filter((each) => each.c !== c || each.at !== at)
      this.#refuse(key, hold, { c, at }, send)
      return answer('released')
    }
    // Its other claims are released first: while it is compensated it holds nothing.
    remove(key, hold)
    this.#giveBack(
      hold.claims.filter((each) => each.c !== c || each.at !== at),
      { ...hold, now },
      send,
    )
    const ops: Op[] = [
      { do: 'note', text: `lost c${c} ${at}` },
      ...this.#upcast(hold.input.sorry, hold.version),
    ]
    const { cause, depth = 0 } = message
    const outcome = this.#derive(key.place, { now, root, cause, depth, isClaiming: false }, ops, send)
    if (outcome.status === 'failed') this.state.failures.push(`${identityOf(root)} ${outcome.code}`)
    answer(outcome.status === 'failed' ? 'failed' : 'compensated')
  }

  /** A derivation that is no request; one that throws is undone by itself. */
  #react(message: Message, ops: readonly Op[], send: (message: Message) => void): void {
    const { to, now, root, cause, depth = 0 } = message
    const outcome = this.#derive(to, { now, root, cause, depth, isClaiming: false }, ops, send)
    if (outcome.status === 'failed') this.state.failures.push(`${identityOf(root)} ${outcome.code}`)
    if (outcome.status === 'rejected') this.state.failures.push(`${identityOf(root)} rejection-not-returned`)
  }

  /** Derives; what is rejected or thrown leaves nothing behind. */
  #derive(
    place: Place,
    of: Pick<Context, 'now' | 'root' | 'cause' | 'depth' | 'isClaiming' | 'own'>,
    ops: readonly Op[],
    send: (message: Message) => void,
  ): Outcome {
    const key = this.key(place)
    // A violation that is resolved stays as it is, and there may be hundreds.
    const [resolved, others] = [
      key.violations.filter(isResolved),
      key.violations.filter((v) => !isResolved(v)),
    ]
    const before = structuredClone({ ...key, violations: others })
    before.violations.unshift(...resolved)
    const sent: Message[] = []
    const asked: Effect[] = []
    const { plan } = this
    let outcome: Outcome
    try {
      const rejected = derive(
        {
          ...of,
          plan,
          key,
          choose: this.#choose,
          send: (each) => sent.push(each),
          ask: (each) => asked.push(each),
        },
        ops,
      )
      outcome =
        rejected instanceof Rejected
          ? { status: 'rejected', reason: rejected.reason }
          : { status: 'accepted', value: { n: key.n ?? 0 } }
    } catch (error) {
      if (!(error instanceof Thrown)) throw error
      outcome = { status: 'failed', code: error.code }
    }
    if (outcome.status !== 'accepted') {
      this.state.keys.set(keyOf(place), before)
      return outcome
    }
    for (const each of sent) send(each)
    for (const each of asked) {
      this.state.effects.set(each.id, each)
      const early = this.state.early.get(each.id) ?? []
      for (const result of early) if (isEqual(result.input, each.input)) send(this.#resultOf(result, of.now))
      this.#answer(each)
    }
    return outcome
  }
}

function isResolved({ state }: Violation): boolean {
  return state === 'resolved'
}

export function isEqual(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}

/** A judge sends it to a request that holds claims. */
function isAnswer({ kind }: Message): boolean {
  return ['queued', 'served', 'compensate', 'lapse'].includes(kind)
}

function isOfClaims({ kind }: Message): boolean {
  return ![
    'request',
    'resolve',
    'redrive',
    'event',
    'timer',
    'result',
    'correction',
    'queued',
    'served',
  ].includes(kind)
}

/** Messages that belong to claims pass a waiting key; those that make a request give way, only if it waits. */
function passes(message: Message, waiting: string): boolean {
  switch (message.kind) {
    case 'claim':
    case 'exchange':
    case 'verdict':
    case 'release':
    case 'confirm':
    case 'unconfirmed':
    case 'compensated':
    case 'deadline':
      return true
    case 'compensate':
    case 'lapse':
      return identityOf(message.root) === waiting
    default:
      return false
  }
}

/** Whether a claim is on a constraint and key. */
function isOn({ c, at }: { readonly c: number; readonly at: string }): (claim: Wanted) => boolean {
  return (claim) => claim.c === c && claim.at === at
}

function holdOf(key: Key, root: Root): Hold | undefined {
  return key.holds.find((each) => identityOf(each.root) === identityOf(root))
}

function remove(key: Key, hold: Hold): void {
  key.holds = key.holds.filter((each) => identityOf(each.root) !== identityOf(hold.root))
}

import { app, type Constraint, effect, reject, scopes, type Tx } from 'hence'
import { anything } from '../apps/anything.ts'
import {
  type AppPlan,
  base,
  type HopData,
  type Op,
  type Place,
  type Poison,
  type RunInput,
  type TaskInput,
} from './plan.ts'

const textOf = (each: { readonly input: unknown } | undefined) => (each?.input as TaskInput | undefined)?.text

function dive(n: number): number {
  return dive(n + 1) + 1
}

interface Line {
  readonly constraint: string
  readonly key: string
  readonly violation?: string | null
  readonly confirmBy?: number | null
}

/** The random app, as the engine runs it. */
export function modelled(plan: AppPlan) {
  const { twist } = plan
  const [a, b] = scopes('a', 'b')
  // Both scopes have the same definitions, so one type stands for both.
  const both = [a, b as unknown as typeof a]
  const task = effect('task', { input: anything<TaskInput>(), result: anything<{ got: string }>() })

  const constraints: Constraint[] = plan.constraints.map((each, i) => {
    const { kind, mode, limit, overbook, victims, review, deadlineMs, waitingList } = each
    const common = { mode, victims, review, deadlineMs, ...(waitingList && { waitingList }) }
    return kind === 'unique'
      ? both[each.s]!.unique(`c${i}`, common)
      : both[each.s]!.capacity(`c${i}`, { ...common, limit, overbook })
  })

  const tablesOf = both.map((scope) => ({
    journal: scope.table(`journal-${scope.name}`, { value: anything<{ lines: string[] }>() }),
    counts: scope.table(`counts-${scope.name}`, { value: anything<{ n: number }>() }),
    rows: scope.table(`rows-${scope.name}`, { key: ['string'], value: anything<{ n: number }>() }),
    fixes: scope.table(`fixes-${scope.name}`, { key: ['string'], value: anything<{ times: number }>() }),
  }))
  const isHarmless = ({ tag }: Poison) => twist.ends === true && tag === 0
  const older = (ops: readonly Op[] = []): Op[] => [...ops, { do: 'note', text: 'older' }]
  const versions = (upcast: (data: never) => unknown): object =>
    twist.upcasts ? { version: 2, upcast: { 1: upcast } } : {}
  const hop = {
    data: anything<HopData>(),
    key: (data: HopData) => data.k,
    ...versions((data: HopData) => ({ ...data, ops: older(data.ops) })),
  }
  const hops = both.map((scope) => scope.event(`hop-${scope.name}`, hop))
  const rings = both.map((scope) => scope.event(`ring-${scope.name}`, hop))

  function doer(s: 0 | 1) {
    const { journal, counts, rows } = tablesOf[s]!
    const note = (tx: Tx<'a'>, text: string) =>
      tx.put(journal, { lines: [...(tx.get(journal)?.lines ?? []), text] })
    const emit = (tx: Tx<'a'>, to: Place, ops: readonly Op[], name?: string) =>
      tx.emit(hops[to.s]!, { k: to.k, ops }, name === undefined ? {} : { key: name })

    /** Returns a rejection, or undefined to go on. */
    function run(tx: Tx<'a'>, ops: readonly Op[]): ReturnType<typeof reject> | undefined {
      for (const op of ops) {
        const c = 'c' in op ? (constraints[op.c] as Constraint<'a'>) : (undefined as never)
        switch (op.do) {
          case 'note':
            note(tx, op.text + (twist.suffix ?? ''))
            break
          case 'who':
            note(tx, `${tx.requestId} ${tx.principal}`)
            break
          case 'now':
            note(tx, `now ${tx.now - base}`)
            break
          case 'add':
            tx.put(counts, { n: (tx.get(counts)?.n ?? 0) + op.by })
            break
          case 'put':
            tx.put(rows, op.sub, { n: op.n })
            break
          case 'del':
            note(tx, `del ${op.sub} ${tx.delete(rows, op.sub)}`)
            break
          case 'list':
            note(
              tx,
              `list ${tx
                .scan(rows)
                .map((each) => `${each.key[0]}=${each.value.n}`)
                .join()}`,
            )
            break
          case 'emit':
            if (op.tag === twist.echo) emit(tx, op.to, [{ do: 'note', text: 'echo' }])
            if (op.tag !== twist.mute) emit(tx, op.to, op.ops, op.name)
            break
          case 'set':
            tx.schedule(rings[s]!, { k: tx.key, ops: op.ops }, { at: tx.now + op.in, key: op.name })
            break
          case 'cancel':
            note(tx, `cancel ${op.name} ${tx.cancel(rings[s]!, { key: op.name })}`)
            break
          case 'ask': {
            if (op.tag === twist.more) tx.effect(task, { text: `more ${op.text}`, done: [], dead: [] })
            if (op.tag === twist.silent) break
            const text = op.tag === twist.reword ? `${op.text} again` : op.text
            tx.effect(
              task,
              { text, done: op.done, dead: op.dead },
              op.name === undefined ? {} : { key: op.name },
            )
            break
          }
          case 'release':
            note(tx, `release ${op.c} ${tx.release(c, op.at, op.units)}`)
            break
          case 'waits':
            note(tx, `waits ${op.c} ${tx.waits(c, op.at)}`)
            break
          case 'confirm':
            note(tx, `confirm ${op.c} ${tx.confirm(c, op.at)}`)
            break
          case 'usage': {
            const { limit, claimed, excess, waiting = 0 } = tx.usage(c)
            note(tx, `usage ${op.c} ${claimed}/${limit} ${excess} ${waiting}`)
            break
          }
          case 'limit':
            tx.setLimit(c, op.to)
            break
          case 'adjust':
            tx.adjustLimit(c, op.by)
            break
          case 'settle': {
            note(tx, `settle ${op.c} ${tx.settle(c)}`)
            break
          }
          case 'reject':
            if (!twist.accepts) return reject(op.reason)
            break
          case 'throw':
            if (!twist.mends) throw new Error('broken')
            break
          case 'spin':
            for (let n = 0; !isHarmless(op); n++) if (n < 0) break
            break
          case 'dive':
            if (!isHarmless(op)) dive(0)
            break
          case 'if': {
            if ((tx.get(counts)?.n ?? 0) < op.min) break
            const rejection = run(tx, op.ops)
            if (rejection) return rejection
          }
        }
      }
      return undefined
    }
    return run
  }

  const parts = both.map((scope, i) => {
    const s = i as 0 | 1
    const run = doer(s)
    const { counts, fixes } = tablesOf[i]!
    const request = scope.request(`run-${scope.name}`, {
      input: anything<RunInput>(),
      ...versions((input: RunInput) => ({
        ...input,
        ops: older(input.ops),
        sorry: older(input.sorry),
        queued: older(input.queued),
        served: older(input.served),
      })),
      key: ({ k }: RunInput) => (twist.moves !== undefined && k.endsWith(twist.moves) ? `${k}m` : k),
      claims: ({ claims }: RunInput) =>
        claims.map(({ c, at, units, priority, exchange = false, wait = false }) => {
          const canWait = plan.constraints[c]!.waitingList !== undefined
          return constraints[c]!.claim(at, units, { priority, exchange, wait: wait && canWait })
        }),
      derive: (tx: Tx<'a'>, { ops }: RunInput) => run(tx, ops) ?? { n: tx.get(counts)?.n ?? 0 },
      compensate(tx: Tx<'a'>, { sorry }: RunInput, { constraint, key }: { constraint: string; key: string }) {
        run(tx, [{ do: 'note', text: `lost ${constraint} ${key}` }, ...sorry])
      },
      queued(tx: Tx<'a'>, { queued = [] }: RunInput, { constraint, key, violation }: Line) {
        const why = violation === null ? 'asked' : 'victim'
        run(tx, [{ do: 'note', text: `queued ${constraint} ${key} ${why}` }, ...queued])
      },
      served(tx: Tx<'a'>, { served = [] }: RunInput, { constraint, key, confirmBy }: Line) {
        run(tx, [{ do: 'note', text: `served ${constraint} ${key} ${confirmBy}` }, ...served])
      },
    })
    const reactions = [
      scope.on(hops[i]!, (tx: Tx<'a'>, data) => void run(tx, data.ops)),
      scope.on(rings[i]!, (tx: Tx<'a'>, data) => void run(tx, data.ops)),
      scope.on(task.result, (tx: Tx<'a'>, { input, result }) => {
        run(tx, [{ do: 'note', text: `done ${input.text} ${result.got}` }, ...input.done])
      }),
      scope.on(task.dead, (tx: Tx<'a'>, { input, error }) => {
        run(tx, [{ do: 'note', text: `dead ${input.text} ${error}` }, ...input.dead])
      }),
    ]
    const correct = () =>
      scope.correct((tx: Tx<'a'>, each) => {
        const what =
          each.kind === 'row'
            ? `row ${each.table} ${each.key} ${'before' in each} ${'after' in each}`
            : each.kind === 'outcome'
              ? `outcome ${each.requestId} ${each.before.status} ${each.after.status}`
              : `effect ${each.before.state} ${textOf(each.before)} -> ${textOf(each.after)}`
        tx.put(fixes, what, { times: (tx.get(fixes, what)?.times ?? 0) + 1 })
      })
    return { request, reactions: plan.corrects ? [...reactions, correct()] : reactions }
  })

  return app('modelled', {
    requests: parts.map(({ request }) => request),
    tables: tablesOf.flatMap((each) => Object.values(each)) as never[],
    constraints,
    reactions: parts.flatMap(({ reactions }) => reactions) as never[],
    effects: [task],
  })
}

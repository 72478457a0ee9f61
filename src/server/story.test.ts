import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/bank.ts'
import { appsOf } from '../../test/apps.ts'
import { serve } from '../../test/server/serve.ts'
import { createEngine } from '../index.ts'
import { memoryStorage } from '../testing/index.ts'
import type { Caller } from './caller.ts'

const { bank } = appsOf<typeof made>(import.meta.resolve('../../test/apps/bank.ts'))

test('senders see that and when their request was corrected; only readers see by whom and on which diff', async (t) => {
  const [old, strict] = [
    await bank({ statement: 'paid' }),
    await bank({ statement: 'paid a lot', most: 500, corrects: true }),
  ]
  const engine = await createEngine({
    app: old,
    data: memoryStorage({ partitions: 3 }),
    report: () => {},
  })
  const callers: Readonly<Record<string, Caller>> = {
    ann: { principal: 'ann', permissions: ['submit'] },
    bob: { principal: 'bob', permissions: ['submit'] },
    reader: { principal: 'reader', permissions: ['read'] },
  }
  const { call } = await serve(t, engine, callers)
  const storyFor = async (who: string) => {
    const answer = await call(who, '/requests/large?principal=ann')
    return [
      answer.status,
      (await answer.json()) as { outcome: object; corrected: object; steps: Step[] },
    ] as const
  }
  interface Step {
    readonly kind: string
    readonly correction?: { readonly kind: string; readonly promotion: object }
  }

  const input = { from: 'ann', to: 'bob', cents: 605 }
  await engine.submit('pay', input as never, { requestId: 'large', principal: 'ann' })
  await engine.reprocessing.start({ app: strict })
  const { sha256: diff } = await engine.reprocessing.diff()
  await engine.reprocessing.promote({ diff, note: 'between us' }, { requestId: 'p1', principal: 'mo' })
  await engine.idle()

  const [, read] = await storyFor('reader')
  const [, own] = await storyFor('ann')
  assert.deepEqual(own.outcome, { status: 'accepted', value: { left: -605 } })
  assert.deepEqual(own.corrected, { status: 'rejected', reason: 'too-much' })
  assert.deepEqual([read.outcome, read.corrected], [own.outcome, own.corrected])
  const corrections = ({ steps }: { steps: Step[] }) => steps.flatMap(({ correction }) => correction ?? [])
  const [, fact] = await engine.reprocessing.history()
  assert.deepEqual(
    corrections(own)
      .map(({ kind }) => kind)
      .sort(),
    ['effect', 'outcome'],
  )
  for (const { promotion } of corrections(own)) assert.deepEqual(promotion, { number: 1, at: fact!.at })
  assert.doesNotMatch(JSON.stringify(own), /between us|"mo"|"p1"|sorry/)
  assert.deepEqual(
    corrections(read).map(({ promotion }) => promotion),
    corrections(own).map(() => ({
      number: 1,
      at: fact!.at,
      generation: 1,
      version: engine.stats().version,
      principal: 'mo',
      requestId: 'p1',
      diff,
      note: 'between us',
    })),
  )
  assert.equal((await storyFor('bob'))[0], 403)
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/charges.ts'
import { appsOf } from '../../test/apps.ts'
import { HandClock, settle } from '../../test/hand-clock.ts'
import { type EffectRow, Outbox } from '../effect/outbox.ts'
import { tablesFor } from '../processor/derived-state.ts'
import { sandboxed } from '../sandbox/program.ts'
import { withinLimit } from '../sandbox/watchdog.ts'
import { memoryStore } from '../state/memory-store.ts'
import { State } from '../state/state.ts'
import { LiveDelivery } from './delivery.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../../test/apps/charges.ts'))

test('delivery that starts while the state is derived again calls nothing that the log has a result of', async () => {
  const program = sandboxed(await apps.shop())
  const outboxWith = (effects: Readonly<Record<string, EffectRow['state']>>) => {
    const outbox = new Outbox(tablesFor(program, new State(memoryStore())).get('hence.effects')!)
    for (const [id, state] of Object.entries(effects)) {
      const of = { scope: 'order', key: 'a', identity: 'xfirst\0', rootPartition: 0, rootOffset: 0, depth: 0 }
      outbox.add(id, { ...of, type: 'note', input: '{"text":"hello"}', state, at: 0 })
    }
    return { outbox, place: () => [0, 0] as const }
  }
  const called: string[] = []
  const deliver = ({ id }: { id: string }) => {
    called.push(id)
    return new Promise<never>(() => {})
  }
  const { version } = program
  const handlers = { note: { deliver }, charge: { deliver } } as never
  const timed = async (act: () => void) => (await withinLimit(1_000, act)) !== undefined
  const options = { version, handlers, notes: undefined, clock: new HandClock(), random: () => 1, timed }
  const delivery = new LiveDelivery({ ...options, report: () => {} }, () => {})
  delivery.pause()
  delivery.start(program, outboxWith({ one: 'pending' }))
  await settle()
  assert.deepEqual(called, [])
  delivery.resume(outboxWith({ one: 'done', two: 'pending' }))
  await settle()
  assert.deepEqual(called, ['two'])
})

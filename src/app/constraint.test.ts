import assert from 'node:assert/strict'
import { test } from 'node:test'
import { scopes } from './index.ts'

const [show] = scopes('show')

test('a slip in the options of a constraint is refused by the name of the option', () => {
  for (const [options, option] of [
    [{ mode: 'lose' }, 'mode'],
    [{ victims: 'latest' }, 'victims'],
    [{ review: 'operator' }, 'review'],
    [{ waitinglist: {} }, 'waitinglist'],
    [{ waitingList: null }, 'waitingList'],
    [{ waitingList: { victims: 'yes' } }, 'waitingList.victims'],
    [{ waitingList: { confirmMs: '5m' } }, 'waitingList.confirmMs'],
    [{ overbook: null }, 'overbook'],
    [{ overbook: { percent: '5' } }, 'overbook'],
    [{ overbook: -1 }, 'overbook'],
    [{ limit: 1.5 }, 'limit'],
    [{ deadlineMs: -1 }, 'deadlineMs'],
  ] as const) {
    assert.throws(
      () => show.capacity('seats', options as never),
      (error: { code: string; message: string }) =>
        error.code === 'app-invalid' && error.message.includes(`\`${option}\` of constraint "seats"`),
      option,
    )
  }
  const waitingList = { victims: true, confirmMs: 1, maxBytes: 1 }
  show.capacity('seats', { limit: 3, overbook: { percent: 0.5 }, mode: 'loose', waitingList })
  show.unique('name', { mode: 'strict', victims: 'oldest' })
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import fc from 'fast-check'
import { summarise } from '../../../test/differences.ts'
import type { Violation } from '../../constraint/tables.ts'
import type { ComparedEffect, Difference } from '../../diff/difference.ts'
import { summaryLines } from './diff-format.ts'

// People approve a diff by what they are shown, so no value in it may pass for anything else.

const row = (key: string, sides: { before?: unknown; after?: unknown }, table = 'orders'): Difference => ({
  kind: 'row',
  table,
  scope: 'order',
  key: [key],
  ...sides,
})
const asked = (text: string): ComparedEffect => ({
  type: 'mail',
  input: { text },
  scope: 'order',
  key: 'o1',
  requestId: 'r1',
  principal: 'ann',
  at: 1,
})

const violation = (state: 'compensating' | 'resolved'): Violation => ({
  id: 'v1',
  constraint: 'seats',
  scope: 'flight',
  state,
  at: 1,
  excess: 0,
  deadline: null,
  choosing: 0,
  counts: { told: 0, compensated: 0, released: 0, failed: 0, queued: 0 },
  history: [],
})

const oneOfEach: readonly Difference[] = [
  row('o1', { after: { cents: 5 } }),
  row('o2', { before: { cents: 12.1, state: 'paid' }, after: { cents: 12, state: 'paid' } }),
  row('o3', { before: { cents: 5 } }),
  {
    kind: 'outcome',
    requestId: 'r1',
    principal: 'ann',
    partition: 2,
    offset: 40,
    before: { status: 'rejected', reason: 'sold-out', details: { left: 0 } },
    after: { status: 'accepted', value: { left: 1 } },
  },
  { kind: 'effect', id: 'e1', before: asked('hello'), delivery: 'done' },
  { kind: 'effect', id: 'e2', before: asked('hello'), after: asked('bye'), delivery: 'pending' },
  {
    kind: 'claim',
    constraint: 'seats',
    key: '12A',
    requestId: 'r1',
    principal: 'ann',
    after: { units: 1, priority: 0, confirmed: false, holder: 'b1', scope: 'booking' },
  },
  {
    kind: 'usage',
    constraint: 'seats',
    key: '12A',
    before: { limit: 1, claimed: 0, waived: 0, settled: false },
    after: { limit: 1, claimed: 1, waived: 0, settled: false },
  },
  {
    kind: 'violation',
    constraint: 'seats',
    key: '12A',
    id: 'v1',
    before: violation('compensating'),
    after: violation('resolved'),
  },
  {
    kind: 'timer',
    event: 'expire',
    scope: 'order',
    key: 'o1',
    name: '',
    before: { at: 1, data: {} },
    after: { at: 2, data: {} },
  },
]

const sha256 = '6fcb504a68b455c90271ad9b48c061f9591a2e962cad562604868e22f9363036'

test('text for a terminal: a section for each group', () => {
  assert.equal(
    stripVTControlCharacters(summaryLines(summarise(oneOfEach)).join('\n')),
    `10 differences
sha256 ${sha256}

Rows, orders: 1 added, 1 removed, 1 changed
  + ["o1"] {"cents":5}
  ~ ["o2"]
      cents: 12.1 → 12
  - ["o3"] {"cents":5}

Outcomes, rejected sold-out → accepted: 1 changed
  ~ r1 by ann at 2:40
      rejected sold-out {"left":0} → accepted {"left":1}

Effects, mail: 1 removed, 1 changed, 1 already delivered
  - e1 of r1 by ann, delivered {"text":"hello"}
  ~ e2 of r1 by ann
      input: {"text":"hello"} → {"text":"bye"}

Claims, seats: 1 added
  + "12A" for r1 by ann {"confirmed":false,"holder":"b1","priority":0,"scope":"booking","units":1}

Limits and use, seats: 1 changed
  ~ "12A"
      claimed: 0 → 1

Violations, seats: 1 changed
  ~ "12A" v1
      state: "compensating" → "resolved"

Timers, expire: 1 changed
  ~ ["order","o1"]
      at: 1 → 2`,
  )
})

test('the text says that nothing differs', () => {
  assert.deepEqual(summaryLines(summarise([])), ['Nothing differs.'])
})

test('everything that is left out is counted: samples and groups', () => {
  const many = [
    ...Array.from({ length: 12 }, (_, i) => row(`k${i}`, { after: { i } }, 't0000')),
    ...Array.from({ length: 3_000 }, (_, i) =>
      row('k', { after: { text: 'x'.repeat(1_000) } }, `t${String(i + 1).padStart(4, '0')}`),
    ),
  ]
  const summary = summarise(many)
  const text = summaryLines(summary).map((line) => stripVTControlCharacters(line))
  assert.ok(text.includes('  … and 7 more'), 'of the first group')
  assert.ok(text.includes('Rows: … and 2,951 more'), 'groups')
})

const hostile = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 200 }),
  fc.string({
    unit: fc.constantFrom('`', '|', '\n', '\x1b[31m', '\u202e', '```\n', '# ', '@@', '漢', '<b>', '\\', 'é'),
    maxLength: 60,
  }),
)

const hostileDifferences = fc.array(
  fc.oneof(
    fc
      .tuple(hostile, hostile, hostile, hostile)
      .map(([key, field, a, b]) => row(key, { before: { [field]: a, z: 1 }, after: { [field]: b } })),
    fc.tuple(hostile, hostile).map(([key, text]) => row(key, { after: { text } })),
    fc.tuple(hostile, hostile, hostile).map(
      ([reason, message, principal]): Difference => ({
        kind: 'outcome',
        requestId: 'r',
        principal,
        partition: 0,
        offset: 0,
        before: { status: 'rejected', reason },
        after: { status: 'failed', code: 'derivation-threw', message },
      }),
    ),
    fc
      .tuple(hostile, hostile)
      .map(([a, b]): Difference => ({ kind: 'effect', id: 'e', before: asked(a), after: asked(b) })),
  ),
  { minLength: 1, maxLength: 8 },
)

test('no value breaks out of its line, and no line is long', () => {
  fc.assert(
    fc.property(hostileDifferences, (differences) => {
      const summary = summarise(differences)
      for (const line of summaryLines(summary)) {
        const shown = stripVTControlCharacters(line)
        assert.ok(shown.length <= 450, shown)
        assert.ok(!/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(shown), JSON.stringify(shown))
      }
    }),
    { numRuns: 500 },
  )
})

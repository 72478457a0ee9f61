import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import fc from 'fast-check'
import { summarise } from '../../../test/differences.ts'
import type { Violation } from '../../constraint/tables.ts'
import type { ComparedEffect, Difference } from '../../diff/difference.ts'
import { widthOf } from './columns.ts'
import { formatSummary, summaryFormats } from './diff-format.ts'

// People approve a diff by what they are shown, so no value in it may pass for anything else.

const versions = { before: '1a2b', after: '3c4d' }
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

test('text for a terminal: the counts, then a section for each group', () => {
  assert.equal(
    stripVTControlCharacters(formatSummary('text', summarise(oneOfEach), versions)),
    `10 differences
sha256 ${sha256}

                                                     added    removed    changed
Rows
  orders                                                 1          1          1
Outcomes
  rejected sold-out → accepted                           0          0          1
Effects
  mail                                                   0          1          1
Claims
  seats                                                  1          0          0
Limits and use
  seats                                                  0          0          1
Violations
  seats                                                  0          0          1
Timers
  expire                                                 0          0          1

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
  + "12A" for r1 by ann {"confirmed":false,"holder":"b1","priority":0,"scope":"…

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

test('Markdown: a table of the counts, then a section for each group', () => {
  assert.equal(
    formatSummary('markdown', summarise(oneOfEach), versions),
    `# What differs: \`1a2b\` → \`3c4d\`

10 differences. SHA-256 of the full output: \`${sha256}\`

| | | added | removed | changed |
| --- | --- | ---: | ---: | ---: |
| Rows | \`orders\` | 1 | 1 | 1 |
| Outcomes | \`rejected sold-out → accepted\` | 0 | 0 | 1 |
| Effects | \`mail\` | 0 | 1 | 1 |
| Claims | \`seats\` | 1 | 0 | 0 |
| Limits and use | \`seats\` | 0 | 0 | 1 |
| Violations | \`seats\` | 0 | 0 | 1 |
| Timers | \`expire\` | 0 | 0 | 1 |

## Rows

### \`orders\`

1 added, 1 removed, 1 changed

\`\`\`diff
@@ ["o1"] @@
+ {"cents":5}
@@ ["o2"] @@
- cents: 12.1
+ cents: 12
@@ ["o3"] @@
- {"cents":5}
\`\`\`

## Outcomes

### \`rejected sold-out → accepted\`

1 changed

\`\`\`diff
@@ r1 by ann at 2:40 @@
- rejected sold-out {"left":0}
+ accepted {"left":1}
\`\`\`

## Effects

### \`mail\`

1 removed, 1 changed, 1 already delivered

\`\`\`diff
@@ e1 of r1 by ann, delivered @@
- {"text":"hello"}
@@ e2 of r1 by ann @@
- input: {"text":"hello"}
+ input: {"text":"bye"}
\`\`\`

## Claims

### \`seats\`

1 added

\`\`\`diff
@@ "12A" for r1 by ann @@
+ {"confirmed":false,"holder":"b1","priority":0,"scope":"booking","units":1}
\`\`\`

## Limits and use

### \`seats\`

1 changed

\`\`\`diff
@@ "12A" @@
- claimed: 0
+ claimed: 1
\`\`\`

## Violations

### \`seats\`

1 changed

\`\`\`diff
@@ "12A" v1 @@
- state: "compensating"
+ state: "resolved"
\`\`\`

## Timers

### \`expire\`

1 changed

\`\`\`diff
@@ ["order","o1"] @@
- at: 1
+ at: 2
\`\`\``,
  )
})

test('JSON: the summary, on one line, with its members in a fixed order', () => {
  const group = (name: string, added: number, removed: number, changed: number, from: number) => {
    const samples = oneOfEach.slice(from, from + added + removed + changed)
    return { name, added, removed, changed, ...(name === 'mail' && { delivered: 1 }), samples }
  }
  const expected = {
    differences: 10,
    sha256,
    tables: [group('orders', 1, 1, 1, 0)],
    outcomes: [group('rejected sold-out → accepted', 0, 0, 1, 3)],
    effects: [group('mail', 0, 1, 1, 4)],
    claims: [group('seats', 1, 0, 0, 6)],
    usage: [group('seats', 0, 0, 1, 7)],
    violations: [group('seats', 0, 0, 1, 8)],
    timers: [group('expire', 0, 0, 1, 9)],
  }
  assert.equal(formatSummary('json', summarise(oneOfEach), versions), JSON.stringify(expected))
})

test('every format says that nothing differs', () => {
  const nothing = summarise([])
  assert.equal(formatSummary('text', nothing, versions), 'Nothing differs.')
  assert.equal(
    formatSummary('markdown', nothing, versions),
    '# What differs: `1a2b` → `3c4d`\n\nNothing differs.',
  )
  assert.equal(JSON.parse(formatSummary('json', nothing, versions)).differences, 0)
})

test('everything that is left out is counted: samples, groups and sections', () => {
  const many = [
    ...Array.from({ length: 12 }, (_, i) => row(`k${i}`, { after: { i } }, 't0000')),
    ...Array.from({ length: 3_000 }, (_, i) =>
      row('k', { after: { text: 'x'.repeat(1_000) } }, `t${String(i + 1).padStart(4, '0')}`),
    ),
  ]
  const summary = summarise(many)
  const text = stripVTControlCharacters(formatSummary('text', summary, versions)).split('\n')
  assert.ok(text.includes('  … and 7 more'), 'of the first group')
  assert.ok(text.includes('  … and 2,951 more'), 'groups')
  const page = formatSummary('markdown', summary, versions)
  assert.match(page, /\n… and 7 more\.\n/)
  assert.match(page, /\| Rows \| … and 2,951 more \|/)
  const shown = page.match(/^### /gm)!.length
  assert.match(
    page,
    new RegExp(`The page ends here: ${(3_001 - shown).toLocaleString('en-US')} more groups are left out\\.$`),
  )
  assert.ok(shown > 100 && page.length < 61_000, `${shown} sections, ${page.length} characters`)
  // A group that is too long for the page ends it, even if a later group would fit.
  const long = Array.from({ length: 400 }, (_, i) =>
    row(`k${i}`, { after: { text: 'x'.repeat(190) } }, 'long'),
  )
  const cutShort = formatSummary(
    'markdown',
    summarise([...long, row('k', { after: {} }, 'short')], { samples: 400 }),
    versions,
  )
  assert.match(cutShort, /2 more groups are left out/)
  assert.ok(!cutShort.includes('### `short`'))
  assert.ok(
    JSON.parse(formatSummary('json', summary, versions)).tables[1].samples[0].after.text.length === 1_000,
  )
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

test('no value breaks out of its line, its cell or its block, and no line of text is longer than 80 columns', () => {
  fc.assert(
    fc.property(hostileDifferences, (differences) => {
      const summary = summarise(differences)
      for (const line of formatSummary('text', summary, versions).split('\n')) {
        const shown = stripVTControlCharacters(line)
        assert.ok(widthOf(shown) <= 80, shown)
        assert.ok(!/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(shown), JSON.stringify(shown))
      }
      const page = formatSummary('markdown', summary, versions)
      assert.ok(!/[\p{Cf}\p{Zl}\p{Zp}]/u.test(page) && !/[^\P{Cc}\n]/u.test(page))
      const [, table, sections] = page.match(/\n(\| \| \|[\s\S]*?)\n\n(## [\s\S]*)$/)!
      for (const line of table!.split('\n')) {
        assert.equal(line.replaceAll('\\|', '').match(/\|/g)!.length, 6, line)
      }
      for (const [, fence, name] of sections!.matchAll(/^### (`+)(.*)\1$/gm)) {
        const runs = name!.match(/`+/g) ?? []
        assert.ok(!runs.some((run) => run.length === fence!.length), 'no name ends its own code span')
      }
      let inBlock = false
      for (const line of sections!.split('\n')) {
        if (inBlock && line !== '```') assert.match(line, /^(@@ |[+-] | {2}…)/)
        else if (line === '```diff') inBlock = true
        else if (line === '```') inBlock = false
        else assert.match(line, /^(## [A-Z]|### `|[\d…]|$)/, 'outside of blocks there are only our own words')
      }
      assert.ok(!inBlock)
    }),
    { numRuns: 500 },
  )
})

test('JSON is not cut', () => {
  const text = 'long '.repeat(100_000)
  const summary = summarise([row('k', { after: { text } })])
  assert.equal(JSON.parse(formatSummary('json', summary, versions)).tables[0].samples[0].after.text, text)
  assert.deepEqual(summaryFormats, ['text', 'markdown', 'json'])
})

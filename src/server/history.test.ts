import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Served, serveNotes } from '../../test/server/serve.ts'

// The changes of one row, with the requests that made them.

interface Page {
  readonly changes: readonly {
    readonly token: string
    readonly at: number
    readonly kind?: string
    readonly type?: string
    readonly requestId?: string
    readonly principal?: string
    readonly before?: { notes?: number; mood?: string }
    readonly after?: { notes?: number; mood?: string }
  }[]
  readonly keptFrom: string
  readonly cursor?: string
}

const ask = async ({ call }: Served, who: string, path: string): Promise<Page> => {
  const response = await call(who, path)
  assert.equal(response.status, 200, path)
  return (await response.json()) as Page
}

test('each change of a row names the request that it follows from, page by page', async (t) => {
  const served = await serveNotes(t, { partitions: 4 })
  // More than a chunk of traces in the partition of the row.
  const changes = 1_500
  await Promise.all(
    Array.from({ length: changes }, (_, i) =>
      served.engine.submit(
        'write',
        { owner: `o${i % 7}`, number: i, text: 'x', stars: 0 },
        { requestId: `w${i}`, principal: 'ada' },
      ),
    ),
  )
  await served.engine.idle()
  const page = await ask(served, 'reader', '/changes/totals/all?limit=2')
  assert.equal(page.changes.length, 2)
  const [last, before] = page.changes
  assert.deepEqual([last!.before, last!.after], [{ notes: changes - 1 }, { notes: changes }])
  assert.deepEqual([before!.before, before!.after], [{ notes: changes - 2 }, { notes: changes - 1 }])
  assert.deepEqual([last!.kind, last!.type, last!.principal], ['event', 'written', 'ada'])

  // The request has this change in its story.
  const story = await served.engine.story(last!.requestId!, { principal: 'ada' })
  const step = story!.steps.find(({ type }) => type === 'written')!
  assert.deepEqual([step.token, step.at], [last!.token, last!.at])
  assert.deepEqual(step.changes[0]!.after, last!.after)

  const all: Page['changes'][number][] = []
  for (let cursor: string | undefined = ''; cursor !== undefined; ) {
    const query = cursor === '' ? '' : `&cursor=${cursor}`
    const next: Page = await ask(served, 'reader', `/changes/totals/all?limit=97${query}`)
    all.push(...next.changes)
    ;({ cursor } = next)
  }
  assert.deepEqual(
    all.map(({ after }) => after!.notes),
    Array.from({ length: changes }, (_, i) => changes - i),
  )
  assert.equal(all.at(-1)!.before, undefined)
  assert.equal(new Set(all.map(({ requestId }) => requestId)).size, changes)
  assert.match(page.keptFrom, /^\d:0$/)

  // Another row of the same partition key has its own.
  const one = await ask(served, 'reader', '/changes/notes/o3/10')
  assert.deepEqual(
    one.changes.map(({ requestId, kind }) => [requestId, kind]),
    [['w10', 'request']],
  )
  assert.deepEqual((await ask(served, 'reader', '/changes/notes/o3/11')).changes, [])
  for (const [path, status] of [
    ['/changes/none/a', 404],
    ['/changes/notes/o3', 422],
    ['/changes/totals/all?cursor=x', 400],
    ['/changes/totals/all?cursor=WyJhIiwxXQ', 400],
  ] as const) {
    assert.equal((await served.call('reader', path)).status, status, path)
  }
})

test('a caller without `read` sees the changes of rows that are theirs, and only own requests', async (t) => {
  const served = await serveNotes(t)
  await served.submit('ada', 'feel', 'f1', { owner: 'ada', mood: 'good' })
  // A rule that fails hides the row, and what it was before stays in sight.
  await served.submit('admin', 'feel', 'f2', { owner: 'ada', mood: 'bad' })
  await served.submit('admin', 'feel', 'f3', { owner: 'ada', mood: 'bad' })
  await served.submit('admin', 'feel', 'f4', { owner: 'ada', mood: 'fine' })
  await served.engine.idle()
  const shown = async (who: string, query = '') => {
    const { changes, cursor } = await ask(served, who, `/changes/moods/ada${query}`)
    return [changes.map(({ requestId, before, after }) => [requestId, before?.mood, after?.mood]), cursor]
  }
  const [first] = (await ask(served, 'ada', '/changes/moods/ada')).changes
  assert.deepEqual(Object.keys(first!).sort(), ['after', 'at', 'token'], 'the request of another')
  assert.deepEqual(await shown('ada'), [
    [
      [undefined, undefined, 'fine'],
      [undefined, 'good', undefined],
      ['f1', undefined, 'good'],
    ],
    undefined,
  ])
  const [page, cursor] = await shown('ada', '?limit=1')
  assert.deepEqual(page, [[undefined, undefined, 'fine']])
  assert.deepEqual((await shown('ada', `?limit=1&cursor=${cursor}`))[0], [[undefined, 'good', undefined]])
  assert.equal(((await shown('reader'))[0] as unknown[]).length, 4)
  // A row of another: as a row that never was.
  await served.submit('ada', 'write', 'n1', { owner: 'ada', number: 1, text: 'secret' })
  assert.deepEqual((await ask(served, 'bob', '/changes/notes/ada/1')).changes, [])
  assert.equal((await ask(served, 'ada', '/changes/notes/ada/1')).changes[0]!.requestId, 'n1')
  assert.equal((await served.call('bob', '/changes/totals/all')).status, 403)
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Metrics } from './metrics.ts'

test('a label cannot end itself, its line, or act', () => {
  const metrics = new Metrics()
  metrics.count({ method: 'GET', path: '/a"} 1\nhence_forged 7\\\x9b' }, 200)
  const stats = { applied: [], replies: {}, logTime: 0, views: [] } as unknown as Parameters<
    typeof metrics.text
  >[0]
  const lines = metrics.text(stats, undefined, 0, { streams: 0, batches: 0, bodyBytes: 0 }).split('\n')
  const [sample = ''] = lines.filter((line) => line.startsWith('hence_http_responses_total{'))
  assert.ok(
    sample.includes(String.raw`route="/a\"} 1\\u000ahence_forged 7\\\\u009b",status="200"} 1`),
    sample,
  )
  assert.ok(!lines.some((line) => line.startsWith('hence_forged')))
})

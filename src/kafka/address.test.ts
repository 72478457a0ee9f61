import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HenceError } from '../failure.ts'
import { kafkaLogAt } from './address.ts'

test('the address of a log in Kafka has brokers, a topic, a user and how to reach them', () => {
  assert.deepEqual(kafkaLogAt('kafka://a:9092/shop-log'), { brokers: ['a:9092'], topic: 'shop-log' })
  assert.deepEqual(kafkaLogAt('kafka://u%40x:p%2Fw@a:1,b:2/t?tls&mechanism=PLAIN&oneBroker'), {
    brokers: ['a:1', 'b:2'],
    topic: 't',
    tls: {},
    sasl: { mechanism: 'PLAIN', username: 'u@x', password: 'p/w' },
    oneBroker: true,
  })
  for (const wrong of ['kafka://a:9092', 'kafka:///t', 'kafka://a:1/t?ssl', 'kafka://a:1/t/u']) {
    assert.throws(
      () => kafkaLogAt(wrong),
      (error) => error instanceof HenceError && error.code === 'option-invalid',
    )
  }
})

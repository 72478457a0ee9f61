import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HenceError } from '../failure.ts'
import { kafkaLogAt } from './address.ts'
import { kafkaLog } from './carrier.ts'

test('the address of a log in Kafka has brokers, a topic, a user and how to reach them', () => {
  assert.deepEqual(kafkaLogAt('kafka://a:9092/shop-log'), { brokers: ['a:9092'], topic: 'shop-log' })
  assert.deepEqual(kafkaLogAt('kafka://u%40x:p%2Fw@a:1,b:2/t?tls&mechanism=PLAIN&oneBroker'), {
    brokers: ['a:1', 'b:2'],
    topic: 't',
    tls: {},
    sasl: { mechanism: 'PLAIN', username: 'u@x', password: 'p/w' },
    oneBroker: true,
  })
  for (const wrong of ['kafka://a:9092', 'kafka:///t', 'kafka://a:1/t/u', 'kafka://u:%zz@a:1/t']) {
    assert.throws(
      () => kafkaLogAt(wrong),
      (error) => error instanceof HenceError && error.code === 'option-invalid',
    )
  }
})

test('an address with an unknown parameter is refused, with those that there are', () => {
  const message = /"ssl".*tls, mechanism, oneBroker/
  assert.throws(() => kafkaLogAt('kafka://a:1/t?ssl'), { code: 'option-invalid', message })
})

test('an address that no broker can have is refused before anything connects', () => {
  for (const wrong of ['localhost:99999', ':9092', 'a b:9092', '']) {
    const message = new RegExp(`like broker-1.example.org:9092, not "${wrong}"`)
    assert.throws(() => kafkaLog({ brokers: ['a:9092', wrong], topic: 't' }), {
      code: 'option-invalid',
      message,
    })
  }
})

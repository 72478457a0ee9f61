import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEngine } from 'hence'
import { memoryStorage, scenario } from 'hence/testing'
import { appsOf } from '../../test/apps.ts'
import type * as made from './usernames.ts'

const { usernames } = appsOf<typeof made>(import.meta.resolve('./usernames.ts'))

const ann = { principal: 'ann' }
const bob = { principal: 'bob' }

for (const mode of ['strict', 'loose'] as const) {
  const app = await usernames(mode)

  test(`${mode}: a name is free again after a release or a rename`, () => {
    scenario(app)
      .given('register', { account: 'a1', name: 'Ann' }, ann)
      .given('rename', { account: 'a1', name: 'Anna' }, ann)
      .when('register', { account: 'b1', name: 'ann' }, bob)
      .thenAccepted()
      .thenClaimed('name-taken', 'ann', 1)
      .given('release', { account: 'a1' }, ann)
      .when('rename', { account: 'b1', name: 'anna' }, bob)
      .thenAccepted()
      .thenClaimed('name-taken', 'ann', 0)
      .thenRow('accounts', ['b1'], { owner: 'bob', name: 'anna' })
  })

  test(`${mode}: an account cannot rename to its own name, and only its owner may rename it`, () => {
    scenario(app)
      .given('register', { account: 'a1', name: 'Ann' }, ann)
      .when('rename', { account: 'a1', name: 'ANN' }, ann)
      .thenRejected('name-taken')
      .when('rename', { account: 'a1', name: 'other' }, bob)
      .thenRejected('unknown-account')
      .thenClaimed('name-taken', 'other', 0)
      .when('register', { account: 'a1', name: 'other' }, bob)
      .thenRejected('account-exists')
      .when('release', { account: 'a1' }, bob)
      .thenRejected('unknown-account')
      .thenClaimed('name-taken', 'ann', 1)
  })

  test(`${mode}: on 4 partitions 40 accounts compete for 8 names: each goes to one`, async () => {
    const alarms: string[] = []
    const engine = await createEngine({
      app,
      data: memoryStorage({ partitions: 4 }),
      report: ({ message }) => alarms.push(message),
    })
    const replies = await Promise.all(
      Array.from({ length: 40 }, (_, i) =>
        engine.submit('register', { account: `a${i}`, name: `name${i % 8}` }, { requestId: `r${i}` }),
      ),
    )
    await engine.idle()
    const named = (await engine.scan('accounts')).flatMap(({ value }) => value.name ?? [])
    assert.deepEqual(named.sort(), ['name0', 'name1', 'name2', 'name3', 'name4', 'name5', 'name6', 'name7'])
    assert.equal(replies.filter(({ status }) => status === 'accepted').length, mode === 'strict' ? 8 : 40)
    assert.equal((await engine.effects.list({ type: 'ask-for-name' })).length, mode === 'strict' ? 0 : 32)
    assert.deepEqual(alarms, [])
    await engine.close()
  })
}

test('strict: a name that is taken is rejected at once', async () => {
  scenario(await usernames('strict'))
    .given('register', { account: 'a1', name: 'Ann' }, ann)
    .when('register', { account: 'b1', name: 'ann' }, bob)
    .thenRejected('name-taken', { key: 'ann' })
    .thenRow('accounts', ['b1'], undefined)
    .given('register', { account: 'b1', name: 'bob' }, bob)
    .when('rename', { account: 'b1', name: 'ann' }, bob)
    .thenRejected('name-taken')
    .thenRow('accounts', ['b1'], { owner: 'bob', name: 'bob' })
    .thenClaimed('name-taken', 'bob', 1)
})

test('loose: a person who was too late keeps the account and is asked for another name', async () => {
  scenario(await usernames('loose'))
    .given('register', { account: 'a1', name: 'Ann' }, ann)
    .when('register', { account: 'b1', name: 'ann' }, bob)
    .thenAccepted()
    .thenEffect('ask-for-name', { to: 'bob', lost: 'ann' })
    .thenRow('accounts', ['b1'], { owner: 'bob', name: null })
    .thenClaimed('name-taken', 'ann', 1)
    .when('rename', { account: 'b1', name: 'Bob' }, bob)
    .thenAccepted()
    .thenEffects()
    .thenRow('accounts', ['b1'], { owner: 'bob', name: 'Bob' })
})

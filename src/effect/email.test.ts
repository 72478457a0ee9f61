import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { after, before, test } from 'node:test'
import { createTransport } from 'nodemailer'
import { SMTPServer } from 'smtp-server'
import { effectCall, thrown } from '../../test/effect-calls.ts'
import { HenceError } from '../failure.ts'
import { email, type Letter } from './email.ts'
import type { Call } from './handlers.ts'

// A real SMTP server that takes what it gets, but for what these tests have it refuse.

let messages: string[] = []
let refusal: { readonly at: 'from' | 'to' | 'data'; readonly code: number } | undefined
const refuse = (at: string, callback: (error?: Error) => void) =>
  refusal?.at === at
    ? callback(Object.assign(new Error('go away'), { responseCode: refusal.code }))
    : callback()
const server = new SMTPServer({
  disabledCommands: ['STARTTLS'],
  authOptional: true,
  onAuth: (_, __, callback) => callback(new Error('wrong password')),
  onMailFrom: (_, __, callback) => refuse('from', callback),
  onRcptTo: ({ address }, _, callback) =>
    address.startsWith('nobody')
      ? callback(Object.assign(new Error('nobody'), { responseCode: 550 }))
      : refuse('to', callback),
  onData(stream, _, callback) {
    let text = ''
    stream.on('data', (chunk) => {
      text += chunk
    })
    stream.on('end', () => {
      if (refusal?.at !== 'data') messages.push(text)
      refuse('data', callback)
    })
  },
})
let url: string

before(async () => {
  server.listen(0, '127.0.0.1')
  await once(server.server, 'listening')
  url = `smtp://127.0.0.1:${(server.server.address() as AddressInfo).port}`
})

after(() => server.close())

const call = <Input>(input: Input) => effectCall('mail', input)

const letter: Letter = {
  to: 'ann@example.org',
  subject: 'Sorry ü',
  text: 'It ran out.',
  html: '<p>It ran out.',
}
const from = 'The Shop <shop@example.com>'

test('an e-mail is the same, byte by byte, however often it is sent', async () => {
  messages = []
  const posted = await email({ url, from })(call(letter))
  await email({ url, from })(call(letter))
  await email({ transport: createTransport({ url }), from })(call(letter))
  assert.equal(messages.length, 3)
  assert.deepEqual(new Set(messages).size, 1, messages.join('\n---\n'))
  const [message] = messages as [string]
  assert.match(message, /^Message-ID: <0f5c1f8a-0000-8000-8000-000000000001@example\.com>\r$/m)
  assert.match(message, /^Date: Fri, 02 Jan 2026 03:04:05 \+0000\r$/m)
  assert.match(message, /^From: The Shop <shop@example\.com>\r$/m)
  assert.match(message, /^To: ann@example\.org\r$/m)
  assert.equal(posted.messageId, '<0f5c1f8a-0000-8000-8000-000000000001@example.com>')
  assert.match(posted.response, /^250/)
})

test('what an e-mail is may be made of any input; files are not read into it', async () => {
  messages = []
  const options = { url, from, domain: 'mail.example.net' }
  const message = ({ input, key }: Call<{ name: string }>) => ({
    to: `${input.name}@example.org`,
    subject: key,
  })
  await email({ ...options, message })(call({ name: 'bob' }))
  assert.match(messages[0]!, /^Message-ID: <[^@]+@mail\.example\.net>\r$/m)
  assert.match(messages[0]!, /^To: bob@example\.org\r$/m)
  const file = { ...letter, html: undefined, text: { path: '/etc/passwd' } } as never
  assert.match((await thrown(email(options)(call(file)))).message, /File access rejected/)
  assert.equal(messages.length, 1)
})

test('a refusal is for good when it is one of this e-mail, and says so', async () => {
  messages = []
  const send = email({ url, from })
  for (const at of ['from', 'to', 'data'] as const) {
    for (const code of [550, 451]) {
      refusal = { at, code }
      const error = await thrown(send(call(letter)))
      assert.equal(
        error instanceof HenceError && error.code === 'effect-refused',
        code === 550,
        `${at} ${error}`,
      )
      assert.match(error.message, new RegExp(`${code} go away`))
    }
  }
  refusal = undefined
  const nobody = await thrown(send(call({ ...letter, to: [] })))
  assert.ok(nobody instanceof HenceError && nobody.code === 'effect-refused')
  assert.deepEqual(messages, [])
  const some = await thrown(send(call({ ...letter, to: ['ann@example.org', 'nobody@example.org'] })))
  assert.ok(some instanceof HenceError && some.code === 'effect-refused')
  assert.match(some.message, /taken for ann@example\.org, and refused for nobody@example\.org/)
  assert.equal(messages.length, 1)
})

test('a server that is not there or does not know us is tried again', async () => {
  const strange = url.replace('smtp://', 'smtp://us:hidden@')
  for (const each of [strange, 'smtp://127.0.0.1:1']) {
    const error = await thrown(email({ url: each, from })(call(letter)))
    assert.ok(!(error instanceof HenceError))
    assert.doesNotMatch(error.message, /hidden/)
  }
})

test('an address without a domain is refused when the handler is made', () => {
  for (const from of ['shop', 'shop@', '']) {
    assert.throws(() => email({ url, from }), { code: 'option-invalid', advice: 'change' })
  }
})

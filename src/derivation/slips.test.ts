import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import type { Engine } from '../engine/engine.ts'
import { createEngine } from '../engine/open-engine.ts'
import type { App } from '../index.ts'
import type { Report } from '../report.ts'
import { memoryStorage } from '../testing/memory-storage.ts'

// Mistakes that leave no error behind: each must become an outcome that says what to write.

let folder: string
let engine: Engine<App>
const reports: Report[] = []
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hence-slips-'))
  const path = join(folder, 'slips.ts')
  await writeFile(
    path,
    `
    import { app, reject, scopes } from 'hence'
    const [seat] = scopes('seat')
    const any: any = { '~standard': { version: 1, vendor: 'test', validate: (value: unknown) => ({ value }) } }
    const seats = seat.table('seats', { value: any })
    const told = seat.event('told', { data: any, key: () => 'a' })
    const early = reject('early')
    const note = async (text: any) => { throw new Error('lost ' + text.missing.field) }
    const ways: any = {
      forgotten: () => { reject('taken'); return 1 },
      thrown: () => { throw reject('taken') },
      caught: () => { try { throw reject('taken') } catch { return 1 } },
      returned: () => reject('taken'),
      'made two': () => [reject('other'), reject('taken')][1],
      'made before': () => early,
      'in a reaction': (tx: any) => { tx.emit(told, {}) },
      'emits nothing': (tx: any) => tx.emit(undefined, {}),
      'sends nothing': (tx: any) => tx.effect(undefined, {}),
      asynchronous: () => { note({}); return 1 },
      'asynchronous and caught': () => { try { note({}) } catch {} return 1 },
      promised: () => Promise.resolve(1),
      imported: (tx: any) => { import(tx.key); return 1 },
      'asynchronous in text': () => { new Function('return (async () => { throw 1 })()')(); return 1 },
      'too deep in text': () => new Function('const f = () => { try { return f() } catch { return 1 } }; return f()')(),
      'imported in text': () => { new Function('import("./other.ts")')(); return 1 },
      'then thrown': () => { reject('taken'); throw new Error('x') },
      'with a large buffer': () => new Uint8Array(2 ** 31).length,
      'with a large buffer, and caught': () => { try { new ArrayBuffer(2 ** 31) } catch { return 1 } },
      'with a list of large buffers': () => Float64Array.from({ length: 2 ** 27 }).length,
      ...Object.fromEntries(Object.entries({
        new: () => new BigInt64Array(2 ** 13),
        copied: (a: any) => new Float64Array(a),
        from: (a: any) => Float64Array.from(a),
        sliced: (a: any) => a.slice(),
        filtered: (a: any) => a.filter(() => true),
        mapped: (a: any) => a.map((n: number) => n),
        'buffer sliced': (a: any) => a.buffer.slice(0),
        reversed: (a: any) => a.toReversed(),
        sorted: (a: any) => a.toSorted(),
        changed: (a: any) => a.with(0, 1),
      }).map(([name, made]) => ['with many buffers, ' + name, () => {
        const all = [new Float64Array(2 ** 13)]
        while (all.length < 1_100) all.push(made(all[0]) as any)
        return all.length
      }])),
      'with a few buffers': () => {
        const view = new DataView(new ArrayBuffer(8))
        view.setFloat64(0, 1)
        class Bytes extends Uint8Array {}
        const bytes = new Bytes([3, 1, 2]).toSorted()
        return [view.getUint8(0), ...bytes, new Uint8Array(bytes.buffer, 1).length, bytes instanceof Uint8Array]
      },
    }
    const take = seat.request('take', {
      input: any,
      key: () => 'a',
      derive(tx, { way }: any): any {
        tx.put(seats, { way })
        return ways[way](tx)
      },
    })
    const async = seat.request('async', { input: any, key: () => 'a', derive: async () => 1 })
    const frozen = seat.request('frozen', {
      input: any,
      key: () => 'a',
      derive: (tx, { list }: any) => list.sort(),
    })
    const sized = seat.request('sized', {
      input: any,
      key: ({ bytes }: any) => String(new Uint8Array(bytes).length),
      derive: (tx) => null,
    })
    export default app('slips', {
      requests: [take, async, frozen, sized],
      tables: [seats],
      reactions: [seat.on(told, () => { reject('late') })],
    })
    `,
  )
  engine = await createEngine({ app: path, data: memoryStorage(), report: (report) => reports.push(report) })
})
after(async () => {
  await engine.close()
  await rm(folder, { recursive: true })
})

for (const [way, expected, message] of [
  ['forgotten', 'rejection-not-returned', 'return reject("taken")'],
  ['thrown', 'rejection-not-returned', 'return reject("taken")'],
  ['caught', 'rejection-not-returned', 'return reject("taken")'],
  ['returned', 'taken', ''],
  ['made two', 'taken', ''],
  ['made before', 'early', ''],
  ['emits nothing', 'unknown-definition', 'reactions'],
  ['sends nothing', 'unknown-definition', 'effects'],
  ['asynchronous', 'derivation-asynchronous', 'synchronous'],
  ['asynchronous and caught', 'derivation-asynchronous', 'synchronous'],
  ['promised', 'derivation-asynchronous', 'synchronous'],
  ['imported', 'derivation-asynchronous', 'synchronous'],
  ['asynchronous in text', 'derivation-asynchronous', 'synchronous'],
  ['too deep in text', 'derivation-too-deep', 'stack'],
  ['imported in text', 'derivation-asynchronous', 'synchronous'],
  ['then thrown', 'derivation-threw', 'Error: x'],
  ['with a large buffer', 'derivation-too-large', '67108864 bytes'],
  ['with a large buffer, and caught', 'derivation-too-large', '67108864 bytes'],
  ['with a list of large buffers', 'derivation-too-large', '67108864 bytes'],
  ...[
    'new',
    'copied',
    'from',
    'sliced',
    'filtered',
    'mapped',
    'buffer sliced',
    'reversed',
    'sorted',
    'changed',
  ].map((way) => [`with many buffers, ${way}`, 'derivation-too-large', '67108864 bytes'] as const),
] as const) {
  test(`a derivation that rejects or waits the wrong way (${way}) is ${expected}`, async () => {
    const reply = await engine.submit('take', { way } as never, { requestId: way.replaceAll(' ', '-') })
    if (reply.status === 'rejected') assert.equal(reply.reason, expected)
    else {
      assert.ok(reply.status === 'failed', JSON.stringify(reply))
      assert.equal(reply.code, expected)
      assert.ok(reply.message.includes(message), reply.message)
    }
    assert.equal(await engine.get('seats', ['a'] as never), undefined, 'nothing of it stays')
  })
}

test('buffers have a bound for each derivation and validation, not for all of them', async () => {
  for (let i = 0; i < 100; i++) {
    const few = await engine.submit('take', { way: 'with a few buffers' } as never, { requestId: `few-${i}` })
    assert.deepEqual(few.status === 'accepted' && few.value, [63, 1, 2, 3, 2, true])
    const sent = (bytes: number) => engine.submit('sized', { bytes } as never, { requestId: `${bytes}-${i}` })
    assert.equal((await sent(2 ** 20)).status, 'accepted')
    await assert.rejects(sent(2 ** 31), /more than 67108864 bytes/)
  }
})

test('a reaction cannot reject, which its alarm says', async () => {
  const reply = await engine.submit('take', { way: 'in a reaction' } as never, { requestId: 'reaction' })
  assert.equal(reply.status, 'accepted')
  const alarm = reports.at(-1)!
  assert.match(alarm.message, /a reaction or a compensation/)
})

test('an async derivation fails with a code, and an input is frozen', async () => {
  const asked = await engine.submit('async', {} as never, { requestId: 'async' })
  assert.ok(asked.status === 'failed' && asked.code === 'derivation-asynchronous', JSON.stringify(asked))
  const sorted = await engine.submit('frozen', { list: [2, 1] } as never, { requestId: 'frozen' })
  assert.ok(sorted.status === 'failed' && /read only/.test(sorted.message), JSON.stringify(sorted))
})

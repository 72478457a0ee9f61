import assert from 'node:assert/strict'
import { createHash, generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { HenceError } from '../failure.ts'
import type { Log } from '../log/log.ts'
import { memoryLog } from '../log/memory-log.ts'
import { Auditor } from './auditor.ts'
import { type Consistency, checkConsistency, compareHeads } from './consistency.ts'
import { type SignedHead, signHead } from './head.ts'
import { hashMemory, Tree } from './tree.ts'

// Worse than no proof is one for a log that was rewritten.

// A second check of a consistency path, written from the recursive definition of RFC 9162 (2.1.4.1): it takes
// apart what SUBPROOF puts together, from its end, and shares nothing with the iterative one that the RFC
// gives for verifiers.
const sha = (...parts: Buffer[]) =>
  parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest()
const node = (left: Buffer, right: Buffer) => sha(Buffer.of(1), left, right)
function rootsOf(m: number, n: number, path: Buffer[], whole: Buffer | undefined): [Buffer, Buffer] {
  if (m === n) {
    const root = whole ?? path.pop() ?? assert.fail('the path is too short')
    return [root, root]
  }
  const k = 2 ** Math.ceil(Math.log2(n) - 1)
  const beside = path.pop() ?? assert.fail('the path is too short')
  if (m <= k) {
    const [before, after] = rootsOf(m, k, path, whole)
    return [before, node(after, beside)]
  }
  const [before, after] = rootsOf(m - k, n - k, path, undefined)
  return [node(beside, before), node(beside, after)]
}

function proofOf(from: number, path: readonly Buffer[], head: SignedHead): Consistency {
  const paths = [path.map((hash) => hash.toString('hex'))]
  return { format: 'hence-consistency', version: 1, from: [from], paths, head }
}

/** Whether a proof holds, by the second check. */
function holds(earlier: SignedHead, { from, paths, head }: Consistency): boolean {
  return earlier.partitions.every(({ size, root }, i) => {
    assert.equal(from[i], size)
    const later = head.partitions[i]!
    const path = paths[i]!.map((hash) => Buffer.from(hash, 'hex'))
    if (size === 0) return path.length === 0
    const roots = rootsOf(size, later.size, path, Buffer.from(root, 'hex')).map((each) =>
      each.toString('hex'),
    )
    return path.length === 0 && roots[0] === root && roots[1] === later.root
  })
}

const { privateKey, publicKey } = generateKeyPairSync('ed25519')
const logId = '0'.repeat(32)
const withCode = (code: string, advice: string) => (error: unknown) =>
  error instanceof HenceError && error.code === code && error.advice === advice

function opened(log: Log) {
  let now = 0
  return Auditor.open({ log, folder: undefined, clock: { now: () => ++now }, report: assert.fail as never })
}

const treesOf = (partitions: readonly (readonly string[])[]) =>
  partitions.map((records) => {
    const tree = new Tree(hashMemory())
    for (const record of records) tree.append(Buffer.from(record))
    return tree
  })

const headOf = (trees: readonly Tree[], time: number) =>
  signHead(privateKey, {
    logId,
    time,
    partitions: trees.map((tree) => ({ size: tree.size, root: tree.root().toString('hex') })),
  })

test('any two heads of a growing log are proven consistent', async () => {
  const growths = fc.array(fc.tuple(fc.nat(2), fc.integer({ min: 1, max: 9 })), {
    minLength: 1,
    maxLength: 12,
  })
  await fc.assert(
    fc.asyncProperty(growths, async (steps) => {
      const log = memoryLog({ partitions: 3 })
      const auditor = await opened(log)
      const heads: SignedHead[] = []
      for (const [partition, count] of steps) {
        const records = Array.from({ length: count }, (_, i) => Buffer.from(`${heads.length}.${i}`))
        const { offset } = await log.append(partition, records)
        await auditor.receipt(partition, offset + count - 1)
        heads.push(await auditor.newest())
        for (const earlier of heads) {
          const sizes = earlier.partitions.map(({ size }) => size)
          const proof = JSON.parse(JSON.stringify(await auditor.consistency(sizes)))
          const grown = checkConsistency(auditor.publicKey, JSON.parse(JSON.stringify(earlier)), proof)
          assert.ok(holds(earlier, proof))
          const added = heads.at(-1)!.partitions.reduce((sum, { size }, i) => sum + size - sizes[i]!, 0)
          assert.deepEqual([grown.records, grown.logId], [added, log.id])
        }
      }
      await auditor.close()
    }),
    { numRuns: 30 },
  )
})

const contents = fc.tuple(
  fc.array(fc.string({ maxLength: 4 }), { minLength: 1, maxLength: 40 }),
  fc.array(fc.string({ maxLength: 4 }), { maxLength: 40 }),
)

test('a rewritten log is not, whatever was changed and whatever path is given', () => {
  const forgeries = ['the rewritten', 'the first', 'none', 'another'] as const
  fc.assert(
    fc.property(
      contents,
      fc.nat(),
      fc.constantFrom('change', 'remove', 'insert', 'swap'),
      fc.constantFrom(...forgeries),
      ([first, more], pick, what, forgery) => {
        const at = pick % first.length
        const rewritten = [...first]
        if (what === 'change') rewritten[at] += '!'
        if (what === 'remove') rewritten.splice(at, 1)
        if (what === 'insert') rewritten.splice(at, 0, 'one more')
        if (what === 'swap') rewritten.splice(at, 2, ...rewritten.slice(at, at + 2).reverse())
        const all = [...rewritten, ...more]
        fc.pre(first.some((record, i) => all[i] !== record))
        const [before, after, kept] = treesOf([first, all, [...first, ...more]]) as [Tree, Tree, Tree]
        const earlier = headOf([before], 1)
        const later = headOf([after], 2)
        const path = {
          'the rewritten': () => (before.size <= after.size ? after.consistency(before.size) : []),
          'the first': () => kept.consistency(before.size),
          none: () => [],
          another: () => [before.root(), ...kept.consistency(before.size)],
        }[forgery]()
        const proof = proofOf(before.size, path, later)
        assert.throws(
          () => checkConsistency(publicKey, earlier, proof),
          withCode('not-consistent', 'operator'),
        )
      },
    ),
    { numRuns: 500 },
  )
})

test('a proof with any change proves nothing', () => {
  fc.assert(
    fc.property(contents, fc.nat(), ([first, more], pick) => {
      fc.pre(more.length > 0)
      const [one, two] = treesOf([first, [...first, ...more]]) as [Tree, Tree]
      const earlier = headOf([one], 1)
      const proof = proofOf(one.size, two.consistency(one.size), headOf([two], 2))
      checkConsistency(publicKey, earlier, proof)
      const path = proof.paths[0]!
      const other = path.map((hash, i) =>
        i === pick % path.length ? hash.replace(/^./, (c) => (c === '0' ? '1' : '0')) : hash,
      )
      for (const paths of [[[...path, '0'.repeat(64)]], [path.slice(1)], [other]]) {
        if (path.length === 0 && paths[0]!.length === 0) continue
        assert.throws(
          () => checkConsistency(publicKey, earlier, { ...proof, paths }),
          withCode('not-consistent', 'operator'),
        )
      }
      for (const change of [
        { format: 'hence-receipt' },
        { version: 2 },
        { from: [one.size + 1] },
        { from: [] },
        { from: undefined },
        { paths: undefined },
        { paths: [] },
        { paths: [path, path] },
        { paths: [[...path, 'x']] },
        { head: { ...proof.head, time: 3 } },
        { head: { ...proof.head, logId: '1'.repeat(32) } },
        { head: signHead(privateKey, { ...proof.head, logId: '1'.repeat(32) }) },
      ]) {
        assert.throws(
          () => checkConsistency(publicKey, earlier, { ...proof, ...change }),
          (error) => error instanceof HenceError && error.advice === 'change',
          JSON.stringify(change),
        )
      }
      const stranger = generateKeyPairSync('ed25519').publicKey
      assert.throws(
        () => checkConsistency(stranger, earlier, proof),
        withCode('consistency-invalid', 'change'),
      )
    }),
    { numRuns: 20 },
  )
  for (const nothing of [null, undefined, 7, 'x', {}]) {
    assert.throws(
      () => checkConsistency(publicKey, nothing, nothing),
      withCode('consistency-invalid', 'change'),
    )
  }
})

test('two heads alone show contradictions, and the partitions about which they prove nothing', () => {
  const head = (time: number, ...partitions: string[][]) => headOf(treesOf(partitions), time)
  const earlier = head(1, ['a', 'b'], ['c'])
  assert.deepEqual(compareHeads(publicKey, earlier, head(2, ['a', 'b'], ['c'])), [])
  assert.deepEqual(compareHeads(publicKey, earlier, head(2, ['x', 'y', 'z'], ['c'])), [0])
  for (const later of [head(2, ['a', 'B'], ['c']), head(2, ['a'], ['c']), head(1, ['a'], ['c', 'd'])]) {
    assert.throws(() => compareHeads(publicKey, earlier, later), withCode('not-consistent', 'operator'))
  }
  // Given the wrong way round: that is no charge against anybody.
  assert.throws(
    () => compareHeads(publicKey, earlier, head(0, ['a'], ['c'])),
    withCode('consistency-invalid', 'change'),
  )
})

test('sizes that no head of the log has are refused', async () => {
  const log = memoryLog({ partitions: 2 })
  const auditor = await opened(log)
  await assert.rejects(auditor.newest(), withCode('head-not-found', 'change'))
  await assert.rejects(auditor.consistency([0, 0]), withCode('head-not-found', 'change'))
  await log.append(1, [Buffer.from('a')])
  assert.deepEqual((await auditor.consistency([0, 0])).paths, [[], []])
  for (const from of [[], [0], [0, 0, 0], [0, -1], [0, 0.5], [0, Number.NaN]])
    await assert.rejects(auditor.consistency(from), withCode('head-sizes-invalid', 'change'))
  await assert.rejects(auditor.consistency([0, 2]), withCode('log-shorter-than-head', 'operator'))
  await auditor.close()
})

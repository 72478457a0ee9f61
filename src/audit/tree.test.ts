import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { isConsistent, rootOfInclusion } from './proof.ts'
import { Frontier, type Hash, hashesOf, hashMemory, Tree } from './tree.ts'

// The inputs and figures that implementations of Certificate Transparency share (RFC 6962 and RFC 9162).
const inputs = [
  '',
  '00',
  '10',
  '2021',
  '3031',
  '40414243',
  '5051525354555657',
  '606162636465666768696a6b6c6d6e6f',
].map((hex) => Buffer.from(hex, 'hex'))
const roots = [
  'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
  'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
  'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
  'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
  '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
  'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
  '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
]
const hex = (hashes: readonly Hash[]) => hashes.map((hash) => hash.toString('hex'))

// A second implementation, written from the recursive definitions of RFC 9162 and nothing else.
const sha = (...parts: Buffer[]) =>
  parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest()
const splitOf = (n: number) => 2 ** Math.ceil(Math.log2(n) - 1)
function mth(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 0) return sha()
  if (leaves.length === 1) return sha(Buffer.of(0), leaves[0]!)
  const k = splitOf(leaves.length)
  return sha(Buffer.of(1), mth(leaves.slice(0, k)), mth(leaves.slice(k)))
}
function pathOf(m: number, leaves: readonly Buffer[]): Buffer[] {
  if (leaves.length === 1) return []
  const k = splitOf(leaves.length)
  return m < k
    ? [...pathOf(m, leaves.slice(0, k)), mth(leaves.slice(k))]
    : [...pathOf(m - k, leaves.slice(k)), mth(leaves.slice(0, k))]
}
function subproof(m: number, leaves: readonly Buffer[], whole: boolean): Buffer[] {
  if (m === leaves.length) return whole ? [] : [mth(leaves)]
  const k = splitOf(leaves.length)
  return m <= k
    ? [...subproof(m, leaves.slice(0, k), whole), mth(leaves.slice(k))]
    : [...subproof(m - k, leaves.slice(k), false), mth(leaves.slice(0, k))]
}

function treeOf(leaves: readonly Buffer[]): Tree {
  const tree = new Tree(hashMemory())
  for (const leaf of leaves) tree.append(leaf)
  return tree
}

test('roots equal those of other implementations', () => {
  const tree = treeOf(inputs)
  assert.deepEqual(
    roots.map((_, size) => tree.root(size).toString('hex')),
    roots,
  )
  assert.equal(new Tree(hashMemory()).root().toString('hex'), roots[0])
})

test('proofs equal those of other implementations', () => {
  const tree = treeOf(inputs)
  assert.deepEqual(hex(tree.inclusion(0, 1)), [])
  assert.deepEqual(hex(tree.inclusion(2, 3)), [
    'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
  ])
  assert.deepEqual(hex(tree.inclusion(1, 5)), [
    '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
    '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
    'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
  ])
  assert.deepEqual(hex(tree.inclusion(0, 8)), [
    '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
    '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
    '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
  ])
  assert.deepEqual(hex(tree.inclusion(5, 8)), [
    'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
    'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
    'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  ])
  assert.deepEqual(hex(tree.consistency(1, 1)), [])
  assert.deepEqual(hex(tree.consistency(1, 8)), [
    '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
    '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
    '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
  ])
  assert.deepEqual(hex(tree.consistency(2, 5)), [
    '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
    'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
  ])
  assert.deepEqual(hex(tree.consistency(6, 8)), [
    '0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a',
    'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
    'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  ])
})

test('every root and proof of trees up to 40 leaves equals the recursive definition, and checks', () => {
  const leaves = Array.from({ length: 40 }, (_, i) => Buffer.from(`record ${i}`))
  const tree = treeOf(leaves)
  for (let size = 1; size <= leaves.length; size++) {
    const some = leaves.slice(0, size)
    const root = tree.root(size)
    assert.deepEqual(root, mth(some))
    for (let index = 0; index < size; index++) {
      const path = tree.inclusion(index, size)
      assert.deepEqual(hex(path), hex(pathOf(index, some)))
      assert.deepEqual(rootOfInclusion(some[index]!, index, size, path), root)
      if (size > 1) assert.notDeepEqual(rootOfInclusion(some[index]!, (index + 1) % size, size, path), root)
      assert.notDeepEqual(rootOfInclusion(Buffer.from('other'), index, size, path), root)
      assert.equal(rootOfInclusion(some[index]!, index, size, [...path, root]), undefined)
    }
    for (let from = 0; from <= size; from++) {
      const path = tree.consistency(from, size)
      assert.deepEqual(hex(path), from === 0 ? [] : hex(subproof(from, some, true)))
      const earlier = { size: from, root: tree.root(from) }
      assert.ok(isConsistent(earlier, { size, root }, path))
      if (from === 0) continue
      assert.ok(!isConsistent({ ...earlier, root: mth([Buffer.from('other')]) }, { size, root }, path))
      assert.ok(!isConsistent(earlier, { size, root: mth([Buffer.from('other')]) }, path))
      assert.ok(!isConsistent(earlier, { size, root }, [...path, root]))
      if (path.length > 0) assert.ok(!isConsistent(earlier, { size, root }, path.slice(1)))
    }
  }
})

test('a tree continues from its kept hashes', () => {
  const hashes = hashMemory()
  const tree = new Tree(hashes)
  for (let i = 0; i < 11; i++) tree.append(Buffer.from(`${i}`))
  assert.equal(hashes.length, hashesOf(11))
  const again = new Tree(hashes, 11)
  again.append(Buffer.from('11'))
  assert.deepEqual(again.root(), mth(Array.from({ length: 12 }, (_, i) => Buffer.from(`${i}`))))
  assert.throws(() => new Tree(hashes, 11), RangeError)
})

test('the frontier has the root of the tree at every size', () => {
  const tree = new Tree(hashMemory())
  const frontier = new Frontier()
  for (let size = 0; size < 70; size++) {
    assert.deepEqual(frontier.root(), tree.root())
    tree.append(Buffer.from(`${size}`))
    frontier.append(Buffer.from(`${size}`))
  }
})

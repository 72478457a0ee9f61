import { createPublicKey, type KeyObject } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { type Clock, setAlarm } from '../clock.ts'
import { changeError, HenceError } from '../failure.ts'
import type { Log } from '../log/log.ts'
import { everyPartition } from '../log/partitions.ts'
import type { Reporter } from '../report.ts'
import { type Consistency, checkSizes, follows } from './consistency.ts'
import { failed, heldUp, isOfDisk, mismatch, otherLog } from './errors.ts'
import { HashesLost, type HashFile, openHashFile } from './hash-file.ts'
import { type PartitionHead, type SignedHead, signHead, type TreeHead } from './head.ts'
import { hasHeads, type KeptHeads, openHeads } from './head-file.ts'
import { isConsistent } from './proof.ts'
import { type Publish, Publisher } from './publisher.ts'
import { checkReceipt, type Receipt } from './receipt.ts'
import { type Rehearsed, signRehearsal } from './rehearsed.ts'
import { halvesIn, keepSigningKey, newSigningKey, readSigningKey } from './signing-key.ts'
import { hashesOf, hashMemory, leafHash, Tree } from './tree.ts'

export interface AuditorOptions {
  readonly log: Log
  /** The folder for key, heads and trees; undefined: in memory, with a key that ends with the process. */
  readonly folder: string | undefined
  readonly clock: Clock
  readonly report: Reporter
  /** Each publishes the newest head, once it is stored. */
  readonly publish?: readonly Publish[]
  /** Makes a new key if the folder has lost its own. */
  readonly newKey?: boolean | undefined
}

/** The time between two heads while there is something new, in milliseconds. */
const headEveryMs = 1_000
/** The records hashed in one turn of the event loop at most: a quarter of a millisecond. */
const recordsPerTurn = 64
/** The hashes of a tree that wait in memory at most. */
const unsavedMax = 16 * 1024
/** The last records of a partition that are compared with its tree before anything is signed. */
const comparedMax = 256
const failedEveryMsMax = 60_000
const partitionsPerTurn = 8

interface PartitionTree {
  readonly tree: Tree
  readonly hashes: HashFile | undefined
}

/**
 * Follows the log and signs tree heads over it. It is not on the path of a request: if it is slow, heads come
 * later, and nothing else waits.
 *
 *   audit/key.pem, public-key.pem   made once; the public key is in signer.pem beside the folder too
 *   audit/heads.ndjson              every signed head; see `openHeads`
 *   audit/tree/p0000 …              derived from the log again if they are missing or do not match the last head
 */
export class Auditor {
  readonly #options: AuditorOptions
  readonly #key: KeyObject
  readonly publicKey: KeyObject
  readonly #heads: KeptHeads | undefined
  readonly #trees: PartitionTree[]
  readonly #publishers: readonly Publisher[]
  #last: SignedHead | undefined
  /** By partition whose tree is being derived again: the size and root that it must pass through. */
  readonly #expected: Map<number, PartitionHead>
  /** The partitions whose kept hashes were found wrong: the next round derives them again. */
  readonly #damaged = new Set<number>()
  #isCompared = false
  /** The failed rounds since the last that succeeded, and the last error that was reported. */
  #failures = 0
  #reported = ''
  /** Resolves to the error that ended the round, if any. */
  #round: Promise<HenceError | undefined> | undefined
  #cancelTimer = () => {}
  #stopped: HenceError | undefined
  #closed = false

  static async open(options: AuditorOptions): Promise<Auditor> {
    const { folder, log } = options
    const all = everyPartition(log)
    if (folder === undefined) {
      const trees = all.map(() => ({ tree: new Tree(hashMemory()), hashes: undefined }))
      return new Auditor(options, newSigningKey(), undefined, trees, new Map())
    }
    let heads: KeptHeads | undefined
    const trees: PartitionTree[] = []
    try {
      const before = await halvesIn(folder)
      const found = await readSigningKey(folder, await hasHeads(folder), options.newKey)
      await mkdir(join(folder, 'tree'), { recursive: true, mode: 0o700 })
      // The file of heads is made before the key, so that a key without one shows a loss.
      heads = await openHeads(folder, before.own || before.public || before.signer, (message) =>
        options.report({ level: 'alarm', code: 'heads-lost', message }),
      )
      const key = await keepSigningKey(folder, found)
      const expected = new Map<number, PartitionHead>()
      for (const partition of all) {
        const path = treePath(folder, partition)
        const signed = heads.last?.partitions[partition] ?? { size: 0, root: '' }
        const kept = await openTree(path, signed.size)
        if (kept) trees[partition] = kept
        if (signed.size > 0 && kept?.tree.root().toString('hex') !== signed.root) {
          await kept?.hashes.close()
          trees[partition] = (await openTree(path, 0))!
          expected.set(partition, signed)
        }
      }
      return new Auditor(options, key, heads, trees, expected)
    } catch (error) {
      await heads?.close()
      for (const { hashes } of trees) await hashes?.close()
      throw error instanceof HenceError ? error : failed(error)
    }
  }

  private constructor(
    options: AuditorOptions,
    key: KeyObject,
    heads: KeptHeads | undefined,
    trees: PartitionTree[],
    expected: Map<number, PartitionHead>,
  ) {
    this.#options = options
    this.#key = key
    this.publicKey = createPublicKey(key)
    this.#heads = heads
    this.#last = heads?.last
    this.#trees = trees
    this.#expected = expected
    const { publish = [], clock, report } = options
    this.#publishers = publish.map((each) => new Publisher({ publish: each, clock, report }))
    // The process before this one may have ended before it published its last head.
    if (this.#last !== undefined) this.#publish(this.#last)
    this.#later()
  }

  /** The newest signed head; undefined before the first. */
  get head(): SignedHead | undefined {
    return this.#last
  }

  /**
   * Returns the newest head. If the last one is a second old or older, waits for a new one.
   * @throws HenceError `head-not-found` (change) while the log is empty; `head-mismatch`, `audit-failed`
   *   (operator)
   */
  async newest(): Promise<SignedHead> {
    // After an opening the last head may be old. Frequent calls make no more heads than the timer does.
    const isOld = this.#last === undefined || this.#options.clock.now() - this.#last.time >= headEveryMs
    if (isOld) await this.#covered()
    if (this.#last !== undefined) return this.#last
    throw changeError(
      'head-not-found',
      'No tree head was signed yet, because the log is empty. Ask again after the first request.',
    )
  }

  /** Proves that the log has only grown between a head of these sizes, by partition, and the newest head. */
  async consistency(from: readonly number[]): Promise<Consistency> {
    const head = await this.newest()
    checkSizes(from, head)
    const paths: string[][] = []
    for (const [partition, { size, root }] of head.partitions.entries()) {
      const later = { size, root: Buffer.from(root, 'hex') }
      const path = await this.#proven(partition, size, (tree) => {
        const earlier = { size: from[partition]!, root: tree.root(from[partition]!) }
        const path = tree.consistency(earlier.size, size)
        if (isConsistent(earlier, later, path)) return hexOf(path)
        throw new Error(`The kept hashes of partition ${partition} have changed.`)
      })
      paths.push(path)
      if (paths.length % partitionsPerTurn === 0) await turn()
    }
    return { format: 'hence-consistency', version: 1, from, paths, head }
  }

  /** Returns a receipt for a record; waits for a head that covers it. */
  async receipt(partition: number, offset: number): Promise<Receipt> {
    const signed = () => this.#last?.partitions[partition]?.size ?? 0
    while (signed() <= offset) await this.#covered()
    const head = this.#last!
    for await (const batch of this.#options.log.read(partition, offset)) {
      const record = batch.records[offset - batch.offset]!.toString('base64')
      return this.#proven(partition, signed(), (tree) => {
        const path = hexOf(tree.inclusion(offset, head.partitions[partition]!.size))
        const format = { format: 'hence-receipt', version: 1 } as const
        const receipt: Receipt = { ...format, partition, offset, record, path, head }
        checkReceipt(this.publicKey, receipt)
        return receipt
      })
    }
    throw failed(new Error(`The log has no record ${offset} in partition ${partition}.`))
  }

  /** Signs what a rehearsal found equal, with a head that covers it. */
  async attest(rehearsed: Rehearsed): Promise<string> {
    const isBehind = ({ partitions }: TreeHead) =>
      rehearsed.positions.some((position, i) => position > partitions[i]!.size)
    let head = await this.newest()
    while (isBehind(head)) {
      await this.#covered()
      head = this.#last!
    }
    return signRehearsal(this.#key, { time: this.#options.clock.now(), ...rehearsed, head })
  }

  /** Signs a last head if there is something new, and closes the files. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#cancelTimer()
    await this.#round
    if (!this.#stopped) await this.#follow().catch((error) => this.#failed(error))
    await Promise.all(this.#publishers.map((publisher) => publisher.close()))
    await this.#heads?.close()
    for (const { hashes } of this.#trees) await hashes?.close()
  }

  /**
   * Returns a proof once a tree has a size. It may be needed in years, so damage to the kept hashes must show
   * now: they are derived again, and then prove it.
   * @param prove checks the proof
   */
  async #proven<Proof>(partition: number, size: number, prove: (tree: Tree) => Proof): Promise<Proof> {
    for (let isAgain = false; ; isAgain = true) {
      // A tree that is derived again is behind its head.
      while (this.#damaged.has(partition) || this.#trees[partition]!.tree.size < size) await this.#covered()
      try {
        return prove(this.#trees[partition]!.tree)
      } catch (error) {
        if (isAgain) throw failed(error)
        this.#damaged.add(partition)
      }
    }
  }

  async #covered(): Promise<void> {
    if (this.#stopped) throw this.#stopped
    if (this.#closed) throw failed(new Error('The auditor is closed.'))
    this.#cancelTimer()
    const failure = await this.#run()
    if (failure) throw failure
  }

  #later(): void {
    if (this.#closed || this.#stopped) return
    const { clock } = this.#options
    const waitMs = Math.min(failedEveryMsMax, headEveryMs * 2 ** this.#failures)
    this.#cancelTimer = setAlarm(clock, clock.now() + waitMs, () => void this.#run())
  }

  #run(): Promise<HenceError | undefined> {
    this.#round ??= this.#follow()
      .then(
        () => {
          this.#failures = 0
          this.#reported = ''
          return undefined
        },
        (error) => this.#failed(error),
      )
      .finally(() => {
        this.#round = undefined
        this.#later()
      })
    return this.#round
  }

  /** Advances the trees; hashes that were lost meanwhile are derived again in the next round. */
  async #follow(): Promise<void> {
    try {
      await this.#advance()
    } catch (error) {
      if (!(error instanceof HashesLost)) throw error
      this.#damaged.add(this.#trees.findIndex(({ hashes }) => hashes?.path === error.path))
    }
  }

  /** Advances every tree to the present end of its partition, and signs a head if there is something new. */
  async #advance(): Promise<void> {
    if (!this.#isCompared) await this.#compareWithLast()
    for (const partition of this.#damaged) await this.#deriveAgain(partition)
    for (const [partition, tree] of this.#trees.entries()) {
      const end = await this.#options.log.end(partition)
      await this.#grow(partition, tree, end)
      const expected = this.#expected.get(partition)
      if (expected !== undefined) throw mismatch(partition, expected.size, `it has only ${end} records now`)
    }
    const signed = (partition: number) => this.#last?.partitions[partition] ?? { size: 0, root: '' }
    const grown = this.#trees.flatMap(({ tree }, i) => (tree.size > signed(i).size ? i : []))
    if (grown.length === 0) return
    for (const i of grown) if (!follows(this.#trees[i]!.tree, signed(i))) this.#damaged.add(i)
    // Nothing is signed by hashes that are wrong.
    if (this.#damaged.size > 0) return
    const head = signHead(this.#key, {
      logId: this.#options.log.id,
      time: this.#options.clock.now(),
      partitions: this.#trees.map(({ tree }, i) =>
        this.#last?.partitions[i]?.size === tree.size
          ? signed(i)
          : { size: tree.size, root: tree.root().toString('hex') },
      ),
    })
    await this.#heads?.add(head)
    this.#last = head
    this.#publish(head)
  }

  /** An older log that was put back, or another's, may not get heads beside those that others hold. */
  async #compareWithLast(): Promise<void> {
    const { log } = this.#options
    if (this.#last !== undefined && this.#last.logId !== log.id) throw otherLog(this.#last.logId, log.id)
    for (const [partition, { size }] of (this.#last?.partitions ?? []).entries()) {
      const end = partition < log.partitions ? await log.end(partition) : 0
      if (end < size) throw mismatch(partition, size, `it has only ${end} records now`)
      // A tree that is derived again is compared as a whole.
      const isAgain = this.#expected.has(partition) || this.#damaged.has(partition)
      if (size > 0 && !isAgain) await this.#compareLeaves(partition, size)
    }
    this.#isCompared = true
  }

  async #compareLeaves(partition: number, size: number): Promise<void> {
    const { tree } = this.#trees[partition]!
    let at = Math.max(0, size - comparedMax)
    for await (const { offset, records } of this.#options.log.read(partition, at)) {
      for (; at < Math.min(size, offset + records.length); at++) {
        if (tree.leaf(at).equals(leafHash(records[at - offset]!))) continue
        // The tree or the log is wrong: all records together are compared with the head.
        this.#damaged.add(partition)
        return
      }
      if (at === size) return
    }
  }

  async #deriveAgain(partition: number): Promise<void> {
    const { folder, report } = this.#options
    if (folder !== undefined) {
      const path = treePath(folder, partition)
      const opened = await openTree(path, 0)
      await this.#trees[partition]!.hashes?.close()
      this.#trees[partition] = opened!
      const signed = this.#last?.partitions[partition]
      if (signed !== undefined && signed.size > 0) this.#expected.set(partition, signed)
      const message = `The hashes in ${path} do not fit the log: they are derived again from it.`
      report({ level: 'warning', code: 'state-unreadable', message })
    }
    this.#damaged.delete(partition)
  }

  #publish(head: SignedHead): void {
    for (const publisher of this.#publishers) publisher.offer(head)
  }

  async #grow(partition: number, { tree, hashes }: PartitionTree, end: number): Promise<void> {
    // Those that an earlier round could not save, for example on a full disk; no more are gathered before.
    await hashes?.save()
    if (tree.size >= end) return
    let hashed = 0
    for await (const batch of this.#options.log.read(partition, tree.size)) {
      for (const record of batch.records.slice(tree.size - batch.offset)) {
        tree.append(record)
        this.#compare(partition, tree)
        if (++hashed % recordsPerTurn === 0) await turn()
      }
      if (hashes && hashes.unsaved > unsavedMax) await hashes.save()
      // The rest is left to the next round; under load this one would never end.
      if (tree.size >= end) break
    }
    await hashes?.save()
  }

  /** Compares a tree that is being derived again with the signed head, once it has that size. */
  #compare(partition: number, tree: Tree): void {
    const expected = this.#expected.get(partition)
    if (expected?.size !== tree.size) return
    if (tree.root().toString('hex') !== expected.root) {
      throw mismatch(partition, expected.size, 'its records have changed')
    }
    this.#expected.delete(partition)
  }

  /** A transient error is retried in the next round; any other ends the signing. */
  #failed(error: unknown): HenceError {
    const failure = error instanceof HenceError ? error : isOfDisk(error) ? heldUp(error) : failed(error)
    const isTransient = failure.advice === 'retry'
    if (!isTransient) this.#stopped = failure
    this.#failures++
    const { code, message } = failure
    // A long trouble is reported once.
    if (message !== this.#reported)
      this.#options.report({ level: isTransient ? 'warning' : 'alarm', code, message })
    this.#reported = message
    return failure
  }
}

const hexOf = (path: readonly Buffer[]): string[] => path.map((hash) => hash.toString('hex'))

const treePath = (folder: string, partition: number) =>
  join(folder, 'tree', `p${String(partition).padStart(4, '0')}`)

/** Opens the kept tree of a partition with this many records; undefined if fewer hashes are kept. */
async function openTree(path: string, size: number): Promise<{ tree: Tree; hashes: HashFile } | undefined> {
  const hashes = await openHashFile(path, hashesOf(size))
  return hashes && { tree: new Tree(hashes, size), hashes }
}

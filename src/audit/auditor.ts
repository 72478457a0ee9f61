import { createPublicKey, type KeyObject } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import type { Clock } from '../clock.ts'
import { HenceError } from '../failure.ts'
import type { Log } from '../log/log.ts'
import type { Reporter } from '../report.ts'
import { type Consistency, makeConsistency } from './consistency.ts'
import { HashFile } from './hash-file.ts'
import { hashMemory } from './hash-memory.ts'
import { type SignedHead, signHead, type TreeHead } from './head.ts'
import { HeadFile } from './head-file.ts'
import { isConsistent } from './proof.ts'
import { type Publish, Publisher } from './publisher.ts'
import { checkReceipt, makeReceipt, type Receipt } from './receipt.ts'
import { newSigningKey, openSigningKey } from './signing-key.ts'
import { hashesOf, Tree } from './tree.ts'

export interface AuditorOptions {
  readonly log: Log
  /** The folder that it keeps its own in; undefined: in memory, with a key that ends with it. */
  readonly folder: string | undefined
  readonly clock: Clock
  readonly report: Reporter
  /** Each shows the newest head to somebody else, once it is stored. */
  readonly publish?: readonly Publish[]
  readonly random?: (() => number) | undefined
}

/** How long after the last one a head may come, while there is something new, in milliseconds. */
const headEveryMs = 1_000
/** So many records are hashed in one turn of the event loop at most: about half a millisecond. */
const recordsPerTurn = 256
const unsavedMax = 16 * 1024
/** Of so many partitions a proof is made in one turn of the event loop at most. */
const partitionsPerTurn = 8

/** A tree, and where its hashes are kept. */
interface PartitionTree {
  readonly tree: Tree
  readonly hashes: HashFile | undefined
}

/**
 * Follows the log behind its end and signs what it has seen. It is not on the way of a request: what is slow here
 * makes a head later, and nothing else.
 *
 *   audit/key.pem, public-key.pem   made once
 *   audit/heads.ndjson              every head that was signed
 *   audit/tree/p0000 …              derived: made again from the log when missing, or when their root is not the last head's
 */
export class Auditor {
  readonly #options: AuditorOptions
  readonly #key: KeyObject
  /** What heads are checked with. */
  readonly publicKey: KeyObject
  readonly #heads: HeadFile | undefined
  readonly #trees: readonly PartitionTree[]
  readonly #publishers: readonly Publisher[]
  #last: SignedHead | undefined
  /** The trees were made again, and must come by what was signed before. */
  readonly #owed: Map<number, TreeHead['partitions'][number]>
  /** Resolves to what was in the way, if anything was. */
  #round: Promise<HenceError | undefined> | undefined
  #timer: NodeJS.Timeout | undefined
  #stopped: HenceError | undefined
  #closed = false

  /** @throws HenceError `signing-key-unusable`, `head-invalid`, `audit-failed` (operator) */
  static async open(options: AuditorOptions): Promise<Auditor> {
    const { folder, log } = options
    const all = Array.from({ length: log.partitions }, (_, partition) => partition)
    if (folder === undefined) {
      const trees = all.map(() => ({ tree: new Tree(hashMemory()), hashes: undefined }))
      return new Auditor(options, newSigningKey(), undefined, trees, new Map())
    }
    try {
      await mkdir(join(folder, 'tree'), { recursive: true, mode: 0o700 })
      const key = await openSigningKey(folder)
      const heads = await HeadFile.open(join(folder, 'heads.ndjson'))
      const owed = new Map<number, TreeHead['partitions'][number]>()
      const trees = []
      for (const partition of all) {
        const path = join(folder, 'tree', `p${String(partition).padStart(4, '0')}`)
        const signed = heads.last?.partitions[partition] ?? { size: 0, root: '' }
        let kept = await takeUp(path, signed.size)
        if (signed.size > 0 && kept?.tree.root().toString('hex') !== signed.root) {
          await kept?.hashes.close()
          kept = await takeUp(path, 0)
          owed.set(partition, signed)
        }
        trees.push(kept!)
      }
      return new Auditor(options, key, heads, trees, owed)
    } catch (error) {
      throw error instanceof HenceError ? error : failed(error)
    }
  }

  private constructor(
    options: AuditorOptions,
    key: KeyObject,
    heads: HeadFile | undefined,
    trees: readonly PartitionTree[],
    owed: Map<number, TreeHead['partitions'][number]>,
  ) {
    this.#options = options
    this.#key = key
    this.publicKey = createPublicKey(key)
    this.#heads = heads
    this.#last = heads?.last
    this.#trees = trees
    this.#owed = owed
    const { publish = [], clock, report, random } = options
    this.#publishers = publish.map((each) => new Publisher({ publish: each, clock, report, random }))
    // Whether the process before this one has shown its last head to everybody is not known.
    if (this.#last !== undefined) this.#show(this.#last)
    this.#later()
  }

  /** The newest head. */
  get head(): SignedHead | undefined {
    return this.#last
  }

  /**
   * The newest head; one that is new is waited for when the last one was signed a second ago or more.
   * @throws HenceError `head-not-found` (change) while the log is empty; `head-mismatch`, `audit-failed` (operator)
   */
  async newest(): Promise<SignedHead> {
    // After an opening what is behind the last head may be old. Who asks often brings no more heads than the timer does.
    const isOld = this.#last === undefined || this.#options.clock.now() - this.#last.time >= headEveryMs
    if (isOld) await this.#covered()
    if (this.#last !== undefined) return this.#last
    throw new HenceError(
      'head-not-found',
      'change',
      'No tree head was signed yet, since nothing is in the log. Ask again when a request was taken.',
    )
  }

  /**
   * Proves that the log has only grown between a head of these sizes, by partition, and the newest head.
   * @throws HenceError `head-sizes-invalid`, `head-not-found` (change); `log-shorter-than-head`, `head-mismatch`, `audit-failed`
   *   (operator)
   */
  async consistency(from: readonly number[]): Promise<Consistency> {
    const head = await this.newest()
    checkSizes(from, head)
    const paths: Buffer[][] = []
    for (const [partition, { size, root }] of head.partitions.entries()) {
      const { tree } = this.#trees[partition]!
      // One that is made again is behind its head.
      while (tree.size < size) await this.#covered()
      const before = from[partition]!
      const path = tree.consistency(before, size)
      // As with a receipt, that the kept hashes were damaged must show now.
      const earlier = { size: before, root: tree.root(before) }
      if (!isConsistent(earlier, { size, root: Buffer.from(root, 'hex') }, path))
        throw failed(new Error(`The kept hashes of partition ${partition} are not what they were.`))
      paths.push(path)
      if (paths.length % partitionsPerTurn === 0) await turn()
    }
    return makeConsistency(from, paths, head)
  }

  /**
   * A receipt for a record; waits for a head that covers it.
   * @throws HenceError `head-mismatch`, `audit-failed` (operator), and what reading the log throws
   */
  async receipt(partition: number, offset: number): Promise<Receipt> {
    const { tree } = this.#trees[partition]!
    const signed = () => this.#last?.partitions[partition]?.size ?? 0
    // A round that is under way may have passed this partition, and a tree that is made again is behind its head.
    while (signed() <= offset || tree.size < signed()) await this.#covered()
    const head = this.#last!
    const path = tree.inclusion(offset, signed())
    for await (const batch of this.#options.log.read(partition, offset)) {
      const receipt = makeReceipt({ partition, offset }, batch.records[offset - batch.offset]!, path, head)
      // Whoever gets it may need it in years; that the kept hashes were damaged must show now.
      checkReceipt(this.publicKey, receipt)
      return receipt
    }
    throw failed(new Error(`The log has no record ${offset} in partition ${partition}.`))
  }

  /** Signs what is still new, and lets the files go. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    clearTimeout(this.#timer)
    await this.#round
    if (!this.#stopped) await this.#follow().catch((error) => this.#failed(error))
    await Promise.all(this.#publishers.map((publisher) => publisher.close()))
    await this.#heads?.close()
    for (const { hashes } of this.#trees) await hashes?.close()
  }

  async #covered(): Promise<void> {
    if (this.#stopped) throw this.#stopped
    if (this.#closed) throw failed(new Error('The auditor is closed.'))
    clearTimeout(this.#timer)
    const failure = await this.#run()
    if (failure) throw failure
  }

  #later(): void {
    if (this.#closed || this.#stopped) return
    this.#timer = setTimeout(() => void this.#run(), headEveryMs)
    this.#timer.unref()
  }

  #run(): Promise<HenceError | undefined> {
    this.#round ??= this.#follow()
      .then(
        () => undefined,
        (error) => this.#failed(error),
      )
      .finally(() => {
        this.#round = undefined
        this.#later()
      })
    return this.#round
  }

  /** Goes on to where every partition ends now, and signs that if there is something new. */
  async #follow(): Promise<void> {
    for (const [partition, tree] of this.#trees.entries()) {
      const end = await this.#options.log.end(partition)
      await this.#grow(partition, tree, end)
      const owed = this.#owed.get(partition)
      if (owed !== undefined) throw mismatch(partition, owed.size, `it has only ${end} records now`)
    }
    const isNew = this.#trees.some(({ tree }, i) => tree.size > (this.#last?.partitions[i]?.size ?? 0))
    if (!isNew) return
    const head = signHead(this.#key, {
      logId: this.#options.log.id,
      time: this.#options.clock.now(),
      partitions: this.#trees.map(({ tree }) => ({ size: tree.size, root: tree.root().toString('hex') })),
    })
    await this.#heads?.add(head)
    this.#last = head
    this.#show(head)
  }

  #show(head: SignedHead): void {
    for (const publisher of this.#publishers) publisher.offer(head)
  }

  async #grow(partition: number, { tree, hashes }: PartitionTree, end: number): Promise<void> {
    if (tree.size >= end) return
    let hashed = 0
    for await (const batch of this.#options.log.read(partition, tree.size)) {
      for (const record of batch.records.slice(tree.size - batch.offset)) {
        tree.append(record)
        this.#settle(partition, tree)
        if (++hashed % recordsPerTurn === 0) await turn()
      }
      if (hashes && hashes.unsaved > unsavedMax) await hashes.save()
      // The rest is for the next round: under load there would be no end of it.
      if (tree.size >= end) break
    }
    await hashes?.save()
  }

  /** A tree that is made again must have been what was signed. */
  #settle(partition: number, tree: Tree): void {
    const owed = this.#owed.get(partition)
    if (owed?.size !== tree.size) return
    if (tree.root().toString('hex') !== owed.root) {
      throw mismatch(partition, owed.size, 'its records are others now')
    }
    this.#owed.delete(partition)
  }

  /** What passes is tried again with the next round; all else ends the signing. */
  #failed(error: unknown): HenceError {
    const failure = error instanceof HenceError ? error : failed(error)
    const passes = failure.advice === 'retry'
    if (!passes) this.#stopped = failure
    const { code, message } = failure
    this.#options.report({ level: passes ? 'warning' : 'alarm', code, message })
    return failure
  }
}

function checkSizes(from: readonly number[], { partitions }: SignedHead): void {
  if (from.length !== partitions.length || !from.every((size) => Number.isSafeInteger(size) && size >= 0)) {
    throw new HenceError(
      'head-sizes-invalid',
      'change',
      `These are not the sizes of a head of this log: it has ${partitions.length} partitions, and a size for each is the number of its records.`,
    )
  }
  const partition = partitions.findIndex(({ size }, i) => size < from[i]!)
  if (partition < 0) return
  throw new HenceError(
    'log-shorter-than-head',
    'operator',
    `The newest head of this log covers ${partitions[partition]!.size} records of partition ${partition}, and the one that is asked ` +
      `about ${from[partition]}: the log was put back to an earlier time, or the head is not of this log.`,
  )
}

async function takeUp(path: string, size: number): Promise<{ tree: Tree; hashes: HashFile } | undefined> {
  const hashes = await HashFile.open(path, hashesOf(size))
  return hashes && { tree: new Tree(hashes, size), hashes }
}

function mismatch(partition: number, size: number, what: string): HenceError {
  return new HenceError(
    'head-mismatch',
    'operator',
    `The last signed tree head says that partition ${partition} had ${size} records of a certain content, but ${what}. ` +
      'The log was changed after it was signed. No more heads are signed; `hence verify` tells the place.',
  )
}

function failed(cause: unknown): HenceError {
  return new HenceError(
    'audit-failed',
    'operator',
    `Tree heads are not signed any more: ${(cause as Error).message} Requests are taken all the same. ` +
      'Mend the cause and start the engine again.',
    { cause },
  )
}

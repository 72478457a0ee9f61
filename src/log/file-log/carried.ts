import { HenceError, operatorError, retryError } from '../../failure.ts'
import type { Carrier, CarrierBatch } from '../carrier.ts'
import {
  type BatchHeader,
  follows,
  hashOf,
  headerBytes,
  type Lineage,
  noHash,
  payloadIsWhole,
  readHeader,
} from './batch.ts'
import type { KnownBatch } from './carrier-note.ts'
import type { Tip } from './tip.ts'

/** A batch that follows the head, so that it is in the chain of every reader. */
interface LiveBatch {
  readonly header: BatchHeader
  readonly bytes: Buffer
  readonly hash: Buffer
}

/**
 * One partition of a log in its carrier: which batches are live, and who writes. The local copy holds the
 * live ones, and nothing else; see `Carrier` for the rule.
 */
export class CarriedPartition {
  readonly #carrier: Carrier
  readonly #lineage: Lineage
  /** The last live batch that was read or written. */
  #known: KnownBatch | undefined
  /** The last one that the copy has durably. */
  #kept: KnownBatch | undefined
  #next = 0
  /** The nonces of this process under which a batch may still become live. */
  #nonces = new Set<string>()
  /** The nonce of the last live batch that was read. */
  #lastNonce = ''
  /** Whether the partition was taken: then every live batch is this process's own, or another has taken it. */
  #isTaken = false

  /** @param known where the reading begins; any older batch than the last one is right, but slower */
  constructor(carrier: Carrier, lineage: Lineage, known: KnownBatch | undefined) {
    this.#carrier = carrier
    this.#lineage = lineage
    this.#known = known
    this.#kept = known
  }

  get kept(): KnownBatch | undefined {
    return this.#kept
  }

  /** The copy is durable up to the last live batch. */
  keep(): void {
    if (this.#next > 0) this.#kept = this.#known
  }

  /** The position after everything that was read or written. */
  get next(): number {
    return this.#next
  }

  get batchBytesMax(): number {
    return this.#carrier.batchBytesMax
  }

  /**
   * Finds the last batch of the local copy in the carrier. If it is not there, the carrier has lost what this
   * copy remembers.
   */
  async find({ hash, offset }: Tip): Promise<void> {
    if (this.#next > 0 && this.#known?.hash.equals(hash)) return
    if (hash.equals(noHash)) {
      this.#next = 0
      return
    }
    // Without a note, or with a wrong one, all of it is read.
    const from = this.#known && (await this.#isThere(this.#known)) ? this.#known.position : 0
    for (const start of from === 0 ? [0] : [from, 0]) {
      for await (const { position, bytes } of this.#carrier.read(this.#lineage.partition, start)) {
        const found = hashOf(bytes)
        if (!found.equals(hash)) continue
        this.#moveTo(position, found)
        return
      }
    }
    throw this.#lost(`the batch before offset ${offset} is not there`)
  }

  /**
   * Reads on, and returns the live batches. Each counts as read once the next one is asked for.
   * @throws HenceError `log-taken` (retry) for a batch of another process, after this one has taken the
   *   partition; `carrier-lost-records`, `carrier-damaged` (operator), `carrier-unreachable` (retry)
   */
  async *news(tip: Tip): AsyncGenerator<LiveBatch> {
    await this.find(tip)
    let { hash: head, offset, epoch, time } = tip
    let isChecked = false
    for await (const { position, bytes } of this.#carrier.read(this.#lineage.partition, this.#next)) {
      const header = this.#headerOf(bytes, position)
      if (!follows(bytes, 0, head)) {
        // Dead, unless it follows one that this copy does not have: then the carrier has replaced the end.
        if (header.baseOffset > offset)
          throw this.#lost(`position ${position} follows no batch that is known`)
        if (!isChecked) await this.check()
        isChecked = true
        this.#next = position + 1
        continue
      }
      if (header.baseOffset !== offset || header.time < time || header.epoch < epoch)
        throw this.#damaged(position, 'the batch does not continue the one that it names')
      const nonce = header.nonce.toString('hex')
      if (this.#isTaken && !this.#nonces.has(nonce)) throw this.#taken(position, header.epoch)
      const hash = hashOf(bytes)
      yield { header, bytes, hash }
      this.#lastNonce = nonce
      this.#moveTo(position, hash)
      head = hash
      offset += header.count
      ;({ epoch, time } = header)
    }
  }

  /** From here on this process writes under a nonce, beside the earlier ones. */
  begin(nonce: Buffer): void {
    this.#nonces.add(nonce.toString('hex'))
  }

  /** Whether the last live batch that was read has a nonce. */
  endsWith(nonce: Buffer): boolean {
    return this.#lastNonce === nonce.toString('hex')
  }

  /** A batch with this nonce is live: whatever named an earlier head is decided, and dead if it was not read. */
  took(nonce: Buffer): void {
    this.#isTaken = true
    this.#nonces = new Set([nonce.toString('hex')])
  }

  /** The partition is only read from here on: another process may take it. */
  gaveUp(): void {
    this.#isTaken = false
  }

  /**
   * Appends a batch that names the head.
   * @returns whether it is live; otherwise its fate is open, as it is after an error, until this process has
   *   taken the partition again
   */
  async append(batch: CarrierBatch): Promise<boolean> {
    const position = await this.#carrier.append(this.#lineage.partition, batch, this.#next)
    if (position !== undefined && position < this.#next)
      throw this.#lost(`it gave position ${position} to a batch, though it had ${this.#next} before`)
    return position === this.#next
  }

  /** The batch of the last append is live, and in the local copy. */
  wrote(hash: Buffer): void {
    this.#moveTo(this.#next, hash)
  }

  /** @throws HenceError `carrier-lost-records` (operator) if the last live batch is not there any more */
  async check(): Promise<void> {
    if (this.#known === undefined || (await this.#isThere(this.#known))) return
    throw this.#lost(`the batch at position ${this.#known.position} is gone, or another one`)
  }

  #moveTo(position: number, hash: Buffer): void {
    this.#known = { position, hash }
    this.#next = position + 1
  }

  async #isThere({ position, hash }: KnownBatch): Promise<boolean> {
    for await (const first of this.#carrier.read(this.#lineage.partition, position))
      return first.position === position && hashOf(first.bytes).equals(hash)
    return false
  }

  #headerOf(bytes: Buffer, position: number): BatchHeader {
    const header = readHeader(bytes, 0, this.#lineage)
    const isWhole =
      header && bytes.length === headerBytes + header.payloadBytes && payloadIsWhole(bytes, 0, header)
    if (!isWhole) throw this.#damaged(position, 'it is no whole batch of this partition of this log')
    return header
  }

  get #place(): string {
    return `partition ${this.#lineage.partition} of ${this.#carrier.name}`
  }

  #damaged(position: number, what: string): HenceError {
    return operatorError(
      'carrier-damaged',
      `At position ${position} in ${this.#place}: ${what}. Nothing more is read or written. Find out what wrote ` +
        'there or changed it: only Hence may. Then restore the records, or begin a new log from a local copy ' +
        'with `hence log copy`.',
    )
  }

  #lost(what: string): HenceError {
    return operatorError(
      'carrier-lost-records',
      `Records that were acknowledged are gone from ${this.#place}: ${what}. Was a backup restored, or did a ` +
        'replica take over that lacked them? Nothing more is written, and the local copy still has them: keep ' +
        'it, and begin a new log from it with `hence log copy`.',
    )
  }

  #taken(position: number, epoch: number): HenceError {
    return retryError(
      'log-taken',
      `Another process has taken the log: the batch at position ${position} in ${this.#place} is its own, with ` +
        `epoch ${epoch}. This process writes and acknowledges nothing more. Send the same request to the other.`,
    )
  }
}

/** The error for an append that was not the first to name the head, or may not have been. */
export const unsure = (partition: number) =>
  retryError(
    'log-write-unsure',
    `Something else stands where the log meant to write in partition ${partition}. The records being written ` +
      'are in the log whole or not at all; retry, and the log finds out first.',
  )

export function isUnsure(error: unknown): boolean {
  return error instanceof HenceError && error.code === 'log-write-unsure'
}

export const onlyFollowed = () =>
  retryError(
    'log-followed',
    'This process follows the log and writes nothing. Send the same request to the process that writes it.',
  )

// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the texts are of sources.
/** A deliberate defect: one exact text of a source replaced by another, and the test that must notice it. */
export interface Bug {
  readonly id: string
  /** Below `src`. */
  readonly file: string
  /** Occurs exactly once in the file. */
  readonly old: string
  readonly new: string
  /** The file below the repository, and words of the test's name. */
  readonly test: readonly [file: string, name: string]
  /** It takes long to notice, so samples leave it out. */
  readonly isSlow?: true
}

type Catcher = Bug['test']
const logCrash: Catcher = [
  'test/simulation/log-crash.test.ts',
  'the log loses no acknowledged or read record',
]
const engineDisk: Catcher = [
  'test/simulation/engine-disk.test.ts',
  'an engine loses nothing that it acknowledged',
]
const simulate: Catcher = [
  'test/simulation/simulate.test.ts',
  'no cent is lost or made, and the log derives the same',
]
const transfers: Catcher = ['test/simulation/transfers.test.ts', 'no cent is lost or made in transfers']
const forgetting: Catcher = [
  'test/simulation/forgetting.test.ts',
  'no id is decided twice, however it is forgotten',
]
const claims = 'src/constraint/constraint.test.ts'
const waiting = 'src/constraint/waiting-list.test.ts'
const delivery = 'src/effect/delivery.test.ts'
const engine = 'src/engine/engine.test.ts'
const kept: Catcher = ['test/model/model.test.ts', 'kept failure, model case']
const seeds = 'src/derivation/seed.test.ts'

export const bugs: readonly Bug[] = [
  // The log.
  {
    id: 'acknowledge-before-fsync',
    file: 'log/file-log/active-segment.ts',
    old: '    } finally {\n      await synced\n    }',
    new: '    } finally {\n    }',
    test: logCrash,
  },
  {
    id: 'skip-fsync-of-next-segments-name',
    file: 'log/file-log/partition-files.ts',
    old: "  await disk.syncDirectory(directory, 'next segment')\n",
    new: '',
    test: logCrash,
  },
  {
    id: 'skip-fsync-of-metas-name',
    file: 'log/file-log/file-log.ts',
    old: "  await disk.syncDirectory(directory, 'meta name')\n",
    new: '',
    test: logCrash,
  },
  {
    id: 'rename-before-fsync',
    file: 'log/file-log/disk.ts',
    old: '    await file.sync(label)\n',
    new: '',
    test: logCrash,
  },
  {
    id: 'trust-pages-after-a-failed-fsync',
    file: 'log/file-log/torn-tail.ts',
    old: "      await file.sync('recovered batch')\n",
    new: '',
    test: logCrash,
    isSlow: true,
  },
  {
    id: 'go-on-after-a-failed-write',
    file: 'log/file-log/partition.ts',
    old: "    if (this.#isOwner || failure.code !== 'carrier-unreachable') this.#isKnown = false\n",
    new: '',
    test: logCrash,
  },
  {
    id: 'leave-the-torn-tail',
    file: 'log/file-log/torn-tail.ts',
    old: '    await file.write(Buffer.alloc(bytes), tip.position)\n',
    new: '',
    test: logCrash,
  },
  {
    id: 'cut-a-torn-tail-silently',
    file: 'log/file-log/torn-tail.ts',
    old: '  if (copy !== undefined) report(tornReport(path, tip.position, bytes, copy))\n',
    new: '',
    test: ['test/faults/log-damage.test.ts', 'a torn end is copied aside before it is cut off'],
  },
  {
    id: 'forget-to-fence',
    file: 'log/file-log/active-segment.ts',
    old: '    await this.#checkEnd(this.#expected, this.#found, epoch)\n',
    new: '',
    test: [
      'src/log/file-log/overtaken.test.ts',
      'a writer that no lock stops writes nothing over the batch of a later one',
    ],
  },
  {
    id: 'write-into-a-removed-file',
    file: 'log/file-log/active-segment.ts',
    old: '      this.#own()\n      await this.#checkPath()\n',
    new: '',
    test: ['test/faults/lost-data.test.ts', 'the segment is removed'],
    isSlow: true,
  },
  {
    id: 'follow-the-clock-back',
    file: 'log/log-time.ts',
    old: '    if (time > this.#last) this.#last = time\n',
    new: '    this.#last = time\n',
    test: logCrash,
    isSlow: true,
  },
  {
    id: 'ignore-a-batchs-checksum',
    file: 'log/file-log/batch.ts',
    old: '  return crc32(bytes.subarray(start, start + header.payloadBytes)) === bytes.readUInt32LE(at + 120)\n',
    new: '  return start >= 0\n',
    test: ['src/log/file-log/growing-log.test.ts', 'damage before the end is an error'],
  },
  {
    id: 'ignore-the-hash-chain',
    file: 'log/links.ts',
    old: '    if (link === undefined || link.offset >= (await log.end(partition))) continue\n',
    new: '    if (link) continue\n',
    test: ['test/faults/other-branch.test.ts', 'the state of another branch of the log is refused'],
  },

  // Requests.
  {
    id: 'dedupe-by-high-water-mark',
    file: 'processor/outcomes.ts',
    old: '    return this.#texts.get(identity) !== undefined\n',
    new: '    return [...this.#texts.range({ from: identity })].length > 0\n',
    test: simulate,
  },
  {
    id: 'derive-a-duplicate-of-the-log',
    file: 'processor/outcomes.ts',
    old: '    return this.#texts.get(identity) !== undefined\n',
    new: '    return identity === undefined\n',
    test: ['test/simulation/old-log.test.ts', 'a request that is twice in an old log is derived once'],
  },
  {
    id: 'answer-an-id-with-other-content',
    file: 'request/admission.ts',
    old: '  if (sameMessage(first, sent)) return\n',
    new: '  if (sameMessage(first, sent) || first) return\n',
    test: [engine, 'an id with other content is refused'],
  },
  {
    id: 'queue-without-a-bound',
    file: 'request/admission.ts',
    old: '    if (waiting + bytes.length > queueBytesMax && waiting > 0)\n',
    new: '    if (waiting < 0)\n',
    test: [engine, 'overload is refused before anything is written'],
  },
  {
    id: 'take-an-expired-id-for-a-new-one',
    file: 'request/window.ts',
    old: '    if (made < forgotten || made < this.#latest - this.#windowMs) throw expired(identity)\n',
    new: '    if (made < forgotten) throw expired(identity)\n',
    test: [engine, 'an id is accepted only within its window'],
  },
  {
    id: 'forget-how-far-ids-are-forgotten',
    file: 'processor/watermarks.ts',
    old: '    return identity < this.#ends[partition]!\n',
    new: '    return identity < this.#ends[partition]! && this.#highest < 0\n',
    test: ['test/simulation/old-log.test.ts', 'a request whose id had been forgotten at its place'],
  },
  {
    id: 'let-forgetting-follow-a-jump-of-the-clock',
    file: 'request/window.ts',
    old: '    const reached = Math.min(now, time + this.#clock.elapsed() - at)\n',
    new: '    const reached = Math.max(this.#clock.latest(), time + this.#clock.elapsed() - at)\n',
    test: forgetting,
    isSlow: true,
  },
  {
    id: 'lose-events-of-a-failed-append',
    file: 'engine/request-path.ts',
    old: '      writer.events.goBack(this.#processor.channels.into(partition))\n',
    new: '',
    test: transfers,
    isSlow: true,
  },

  // All records in order.
  {
    id: 'position-ahead-of-state',
    file: 'processor/processor.ts',
    old: "    this.#checkpoints.set('checkpoint', this.#saved())\n    this.#state.commit()\n    return this.#state.checkpoint()\n",
    new:
      "    const saved = this.#state.checkpoint()\n    this.#checkpoints.set('checkpoint', this.#saved())\n" +
      '    this.#state.commit()\n    return saved\n',
    test: engineDisk,
  },
  {
    id: 'state-ahead-of-position',
    file: 'processor/processor.ts',
    old: '      positions: [...this.#positions.next],\n',
    new: '      positions: this.#positions.next.map((next) => Math.max(0, next - 1)),\n',
    test: engineDisk,
  },
  {
    id: 'apply-an-event-twice',
    file: 'processor/channels.ts',
    old: '    if (recorded.channelNumber < channel.applied) return undefined\n',
    new: '    if (recorded.channelNumber < channel.applied) return recorded\n',
    test: ['src/processor/channels.test.ts', 'events of a channel are applied once and in their order'],
  },
  {
    id: 'lose-the-order-of-a-channel',
    file: 'processor/spilled-queues.ts',
    old: '      const message = this.#read(queue, applied + head.length)\n',
    new: '      const message = this.#read(queue, next - tail.length - 1 - head.length)\n',
    test: ['src/processor/channels.test.ts', 'events that take too much memory are dropped by a checkpoint'],
  },
  {
    id: 'keep-all-that-waits-in-memory',
    file: 'processor/spilled-queues.ts',
    old: '    if (this.#heldBytes > this.#heldBytesMax) this.#drop()\n',
    new: '',
    test: ['src/processor/channels.test.ts', 'events that take too much memory are dropped by a checkpoint'],
  },
  {
    id: 'number-events-anew-after-a-start',
    file: 'processor/spilled-queues.ts',
    old: '    queue.next = next\n',
    new: '    queue.next = applied\n',
    test: transfers,
    isSlow: true,
  },
  {
    id: 'ignore-a-gap-in-a-channel',
    file: 'processor/channels.ts',
    old: '    if (recorded.channelNumber > channel.applied) throw gap(target, recorded, channel.applied)\n',
    new: '',
    test: ['src/processor/channels.test.ts', 'an event that comes before another one of its channel'],
  },
  {
    id: 'ignore-that-the-log-says-otherwise',
    file: 'processor/channels.ts',
    old: '    if (emitted !== recorded && !bytes.equals(encodeEvent(recorded))) {\n',
    new: '    if (emitted !== recorded && bytes.length < 0) {\n',
    test: [
      'src/processor/channels.test.ts',
      'an event of the log that was not derived, or derived otherwise',
    ],
  },

  // One record.
  {
    id: 'two-effects-under-one-id',
    file: 'derivation/transaction.ts',
    old: '    const id = namedUuid(this.#origin.seed, `effect ${effect.name}`, name)\n',
    new: '    const id = namedUuid(this.#origin.seed, `effect ${effect.name}`, typeof name)\n',
    test: [delivery, 'effects of one key arrive in their order'],
  },
  {
    id: 'seed-randomness-by-the-log-alone',
    file: 'derivation/seed.ts',
    old: '  return digest16(`request\\0${logId}\\0${identity}`)\n',
    new: '  return digest16(`request\\0${logId}\\0${identity.length}`)\n',
    test: [seeds, 'seeds are as in existing logs'],
  },
  {
    id: 'name-events-without-their-cause',
    file: 'derivation/seed.ts',
    old: '  return digest16(`event\\0${parent}\\0${type}\\0${named}`)\n',
    new: '  return digest16(`event\\0${parent.length}\\0${type}\\0${named}`)\n',
    test: [seeds, 'seeds are as in existing logs'],
  },
  {
    id: 'a-result-reaches-another-input',
    file: 'derivation/step.ts',
    old: '    if (row === undefined || inputHash(row.input) !== record.input) earlyResults.keep(record, time)\n',
    new: '    if (row === undefined) earlyResults.keep(record, time)\n',
    test: ['src/engine/promotion-effects.test.ts', 'the answer to a question is not given to other code'],
  },
  {
    id: 'answers-of-a-keys-judge-overtake',
    file: 'derivation/step.ts',
    old: "(!isAnswer || type === 'hence:verdict')",
    new: 'true',
    test: [waiting, 'a request learns that it waits before it learns'],
  },
  {
    id: 'a-timer-goes-off-early',
    file: 'derivation/timers.ts',
    old: '    if (this.next(partition) > time) return undefined\n    const first',
    new: '    if (this.next(partition) > time + 3_600_000) return undefined\n    time += 3_600_000\n    const first',
    test: ['test/simulation/clock.test.ts', 'a running engine does not follow a clock that jumps'],
    isSlow: true,
  },

  // Claims.
  {
    id: 'grant-one-unit-too-many',
    file: 'constraint/judge.ts',
    old: '  const fits = isFirst && usage.claimed + units <= limitWithMargin(constraint, usage)\n',
    new: '  const fits = isFirst && usage.claimed + units <= limitWithMargin(constraint, usage) + 1\n',
    test: [claims, 'strict: a claim beyond the limit is rejected'],
  },
  {
    id: 'keep-grants-of-a-rejected-request',
    file: 'constraint/holder.ts',
    old: "  for (const { constraint, key } of claims) turn.send('hence:release', key, { constraint, identity })\n",
    new: "  for (const { constraint, key } of claims.slice(1)) turn.send('hence:release', key, { constraint, identity })\n",
    test: [claims, 'what is there can be claimed, and given back'],
  },
  {
    id: 'never-review-a-loose-claim',
    file: 'constraint/judge.ts',
    old: '    else review(turn, constraint, next)\n',
    new: '    else save(turn, constraint, next)\n',
    test: [claims, 'loose: an excess is accepted, detected, compensated'],
  },
  {
    id: 'drop-a-compensation',
    file: 'constraint/review.ts',
    old: "    turn.send(waits === undefined ? 'hence:compensate' : 'hence:queued', holder, lost, { of: id })\n",
    new: "    if (n > 1) turn.send(waits === undefined ? 'hence:compensate' : 'hence:queued', holder, lost, { of: id })\n",
    test: [claims, 'loose: an excess is accepted, detected, compensated'],
  },
  {
    id: 'ignore-a-falling-limit',
    file: 'constraint/judge.ts',
    old: '  review(turn, constraint, { ...usage, ...changed }, true)\n',
    new: '  save(turn, constraint, { ...usage, ...changed })\n',
    test: [claims, 'a falling limit is a violation'],
  },
  {
    id: 'settle-confirmed-claims',
    file: 'constraint/usage.ts',
    old: '  return !confirmed && (served ?? Math.abs(order)) < before\n',
    new: '  return (confirmed || !confirmed) && (served ?? Math.abs(order)) < before\n',
    test: [claims, 'the margin counts until the constraint is settled'],
  },
  {
    id: 'choose-the-wrong-victims',
    file: 'constraint/usage.ts',
    old: "order: victims === 'oldest' ? n : 0 - n }\n",
    new: "order: victims === 'oldest' ? 0 - n : n }\n",
    test: [claims, 'victims are chosen by the policy'],
  },
  {
    id: 'hold-a-place-that-was-not-confirmed',
    file: 'constraint/judge.ts',
    old: '  if (row === undefined || row.confirmed) return\n',
    new: '  if (row) return\n',
    test: [waiting, 'who does not confirm in time loses the place'],
  },

  // Effects.
  {
    id: 'give-up-in-silence',
    file: 'effect/tries.ts',
    old: '    this.#dead.add(id, end)\n',
    new: '',
    test: [delivery, 'an effect is given up after its last try'],
  },
  {
    id: 'a-dead-letter-that-no-record-ends',
    file: 'effect/tries.ts',
    old: '    this.#host.end(id, row, { done: false, ...end })\n',
    new: '',
    test: [delivery, 'an effect is given up after its last try'],
  },
  {
    id: 'forget-tries-with-the-process',
    file: 'storage/try-file.ts',
    old: "      if (id !== undefined) this.#set(id, Number(tries), sign === '+')\n",
    new: "      if (id === undefined) this.#set('', Number(tries), sign === '+')\n",
    test: ['test/faults/deadly-effects.test.ts', 'an effect whose handler ends the process is a dead letter'],
    isSlow: true,
  },
  {
    id: 'order-effects-by-their-ids',
    file: 'effect/key-order.ts',
    old: '    return (a[0] - b[0] || a[1] - b[1]) > 0\n',
    new: '    return (a[0] - b[0] || a[1] - b[1]) > 1e9\n',
    test: [delivery, 'effects of one key arrive in their order'],
  },
  {
    id: 'retry-without-a-longer-delay',
    file: 'effect/tries.ts',
    old: 'delayMs * 2 ** Math.min(tries - 1, doublingsMax)',
    new: 'delayMs * 2 ** Math.min(0, doublingsMax)',
    test: [delivery, 'a try that fails is made again, later each time'],
  },
  {
    id: 'send-again-to-a-receiver-that-forgot',
    file: 'effect/outbox.ts',
    old: "    if (!mayRepeat && now > row.at + receiversRememberMs) return 'effect-may-repeat'\n",
    new: '',
    test: [delivery, 'what was given up is sent again under its id'],
  },

  // New code.
  {
    id: 'a-redriven-effect-meets-its-old-result',
    file: 'derivation/step.ts',
    old: '      if (redrives !== undefined) continue\n',
    new: '',
    test: kept,
    isSlow: true,
  },
  {
    id: 'a-ruling-binds-other-code-too',
    file: 'processor/rulings.ts',
    old: '.filter((ruling) => ruling.version === version && ruling.between === between)',
    new: '.filter(() => version !== between)',
    test: kept,
    isSlow: true,
  },
  {
    id: 'lose-the-result-of-a-moved-effect',
    file: 'derivation/step.ts',
    old: '      this.#result.moved = added(this.#result.moved, { record, key: row.key })\n',
    new: '      return\n',
    test: kept,
    isSlow: true,
  },

  // Proofs and clients.
  {
    id: 'believe-an-unsigned-receipt',
    file: 'audit/receipt.ts',
    old: "  if (!isSignedBy(key, signed)) throw invalid('its head was not signed with this key')\n",
    new: '',
    test: ['src/audit/auditor.test.ts', 'the public key alone checks every receipt'],
  },
  {
    id: 'believe-a-proof-of-another-tree',
    file: 'audit/receipt.ts',
    old: "  if (root?.toString('hex') !== tree.root) throw",
    new: '  if (root === undefined) throw',
    test: ['src/audit/auditor.test.ts', 'the public key alone checks every receipt'],
  },
  {
    id: 'drop-a-request-because-of-a-proxy',
    file: 'client/verdict.ts',
    old: '  if (given ?? wroteNothing) {\n',
    new: '  if (given ?? (status >= 400 && status < 500)) {\n',
    test: ['src/client/client.test.ts', 'decides nothing, and is tried again'],
  },
  {
    id: 'send-before-storing',
    file: 'client/drain.ts',
    old: '      await outbox.add(request.stored)\n',
    new: '      line(request)\n      await outbox.add(request.stored)\n',
    test: ['src/client/client.test.ts', 'nothing is sent before it is stored'],
  },
  {
    id: 'keep-a-position-before-it-is-decided',
    file: 'source/source.ts',
    old: '      await this.#decide(messages, signal)\n',
    new: '      if (next !== undefined) await feed.keep(next)\n      await this.#decide(messages, signal)\n',
    test: ['src/source/source.test.ts', 'a request that the engine does not take now holds up'],
  },
  {
    id: 'take-a-follower-for-one-that-missed-changes',
    file: 'view/recent.ts',
    old: '[...(this.#changedAt ?? positions)]',
    new: '[...positions]',
    test: ['src/view/views.test.ts', 'a follower that has every change of a view goes on after a restart'],
  },
  {
    id: 'number-messages-by-where-reading-began',
    file: 'view/messages.ts',
    old: '  const sum = at.reduce((sum, offset) => sum + offset, 0)\n',
    new: '  const sum = performance.now()\n',
    test: ['src/view/views.test.ts', 'messages come as a view gets them'],
  },
  {
    id: 'compare-the-rows-of-a-view-with-themselves',
    file: 'view/refold.ts',
    old: '    const before = partsOf(saved)\n',
    new: '    const before = partsOf(again)\n',
    test: ['test/integration/rehearsal-views.test.ts', 'a row of a view in LMDB that somebody has changed'],
  },
]

/** A bug as a line of a table. */
export function lineOf({ id, file, test: [path, name] }: Bug): string {
  return `| ${id.replaceAll('-', ' ')} | \`src/${file}\` | \`${path}\`: ${name} |`
}

import type { Event, Request, Schema } from '../app/index.ts'
import { isSystemMessage } from '../app/name.ts'
import { issuesText } from '../app/schema.ts'
import type { KeyKind } from '../app/table.ts'
import { describe } from '../derivation/app-code.ts'
import { type Timer, timers } from '../derivation/timers.ts'
import { upcast } from '../derivation/upcast.ts'
import { type EffectRow, effects } from '../effect/outbox.ts'
import { shown } from '../failure.ts'
import { partitionOf } from '../log/partitions.ts'
import type { LogRecord } from '../log/record.ts'
import { eventsIn } from '../processor/traces.ts'
import type { Program } from '../sandbox/program.ts'
import { withinLimit } from '../sandbox/watchdog.ts'
import { checkPartitionKey, decodeKey } from '../state/keys.ts'
import type { StoreView } from '../state/store.ts'
import type { TableShape } from '../state/table.ts'
import { JudgesOfRequests, judgesBeside, type RequestJudges } from './request-judges.ts'

/** How stored values fit the schema that new code has for them. */
export interface SchemaFit {
  readonly kind: 'request' | 'event' | 'timer' | 'row' | 'effect' | 'result'
  /** The type of the messages or effects, or the table. */
  readonly name: string
  /** Of messages: the version in which they are stored. */
  readonly version?: number
  readonly compared: number
  /** How many of them do not fit. */
  readonly misfits: number
  /** The first of these. */
  readonly samples: readonly Misfit[]
  /** The schema took too long for some values, so the later ones were not compared. */
  readonly stopped?: true
}

/** A stored value that does not fit its schema. */
export interface Misfit {
  /** A position (`partition:offset`), or a key as JSON. */
  readonly at: string
  /** The issues of the schema, shortened. */
  readonly issues: string
}

/** A partition key that more than half of the messages of a type have. */
export interface BusyKey {
  readonly kind: 'request' | 'event'
  readonly type: string
  /** Shortened. */
  readonly key: string
  /** How many messages have it at least, of how many. */
  readonly count: number
  readonly of: number
}

interface Group extends SchemaFit {
  compared: number
  misfits: number
  readonly samples: Misfit[]
  stopped?: true
  late: number
}

interface Stored {
  readonly group: Group
  /** Names it for a reader. */
  readonly at: () => string
  /** Compares it in the realm of a program. */
  readonly judge: (program: Program) => Judged
  readonly keys?: FrequentKeys | undefined
  /** Of a request: receives the constraints that it claims. */
  readonly claimed?: ((judges: readonly string[]) => void) | undefined
}

interface Judged {
  /** Undefined if it fits. */
  readonly issues: string | undefined
  readonly key?: string
  readonly judges?: readonly string[]
}

const samplesMax = 5
const issuesMax = 5
const issuesCharacters = 500
/** How long one value may take, and a group. */
const limitMs = 1_000
const lateMax = 3
const groupMax = 500
const groupCharacters = 1024 * 1024

/** Holds stored values against the schemas of new code, in its realm and within limits. */
export class SchemaFits {
  #program: Program
  readonly #signal: AbortSignal | undefined
  readonly #groups = new Map<string, Group>()
  readonly #keys = new Map<string, { readonly kind: BusyKey['kind']; type: string; keys: FrequentKeys }>()
  readonly #judges = new JudgesOfRequests()
  #waiting: Stored[] = []
  #characters = 0

  /** @param signal stops it; its reason is then thrown */
  constructor(program: Program, signal: AbortSignal | undefined) {
    this.#program = program
    this.#signal = signal
  }

  get all(): SchemaFit[] {
    const inOrder = [...this.#groups.values()].sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1))
    return inOrder.map(({ late, ...fit }) => fit)
  }

  get busyKeys(): BusyKey[] {
    const all = [...this.#keys.values()].map(({ kind, type, keys }) => ({ kind, type, ...keys.most() }))
    const busy = all.filter(({ count, of }) => of >= messagesMin && count > of / 2)
    return busy.map((each) => ({ ...each, key: shown(each.key, 200) }))
  }

  get judges(): RequestJudges[] {
    return this.#judges.all(this.#program.app)
  }

  /** Adds a record. Returns a promise to wait for if enough were added to compare them. */
  record(record: LogRecord, position: string): Promise<void> | undefined {
    if (record.kind !== 'request' && record.kind !== 'event') return undefined
    const { kind, type, version } = record
    const sent = kind === 'request' ? record.input : undefined
    const text = kind === 'request' ? (record.output ?? record.input) : record.data
    return this.#message(kind, type, version, text, () => position, sent)
  }

  /**
   * Compares all rows, waiting effects, results of effects and timers of a state, and the events that stayed
   * in their partition, which are in no log, as long as the state has their traces.
   * @param before the tables of the code that derived it
   * @param partitions the number of partitions
   * @param read called with the number of rows that were read since the last call
   */
  async state(
    view: StoreView,
    before: ReadonlyMap<string, TableShape>,
    partitions: number,
    read: (rows: number) => void,
  ): Promise<void> {
    for (const [key, chunk] of view.range('traces')) {
      for (const { partition, offset, event } of eventsIn(key, chunk)) {
        const [type, target, data, version = 1] = event
        if (partitionOf(target, partitions) !== partition) continue
        await this.#message('event', type, version, JSON.stringify(data), () => `${partition}:${offset}`)
      }
      read(1)
    }
    const rowsOf = async (
      { name, parts }: TableShape,
      add: (text: string, key: () => unknown[]) => Promise<void> | undefined,
    ) => {
      const kinds: KeyKind[] = ['string', ...parts]
      for (const [key, text] of view.range(`t:${name}`)) {
        await add(text, () => decodeKey(kinds, key).parts)
        read(1)
      }
    }
    for (const table of this.#program.app.tables.values()) {
      const { name, parts } = table
      const old = before.get(name)
      // Rows under other keys are other rows.
      if (old === undefined || String(old.parts) !== String(parts)) continue
      const schema = ({ app }: Program) => app.tables.get(name)!.value
      await rowsOf(table, (text, key) => this.#value('row', name, text, () => JSON.stringify(key()), schema))
    }
    await rowsOf(effects, (text, key) => {
      const { type, state, input, result } = JSON.parse(text) as EffectRow
      const at = () => String(key()[0])
      const known = this.#program.app.effects.get(type)
      if (known === undefined) return undefined
      if (state !== 'done')
        return this.#value('effect', type, input, at, ({ app }) => app.effects.get(type)!.input)
      if (result === undefined || known.output === undefined) return undefined
      return this.#value('result', type, result, at, ({ app }) => app.effects.get(type)!.output!)
    })
    await rowsOf(timers, (text, key) => {
      const { version = 1, data } = JSON.parse(text) as Timer
      const [partitionKey, , type, name] = key() as string[]
      return this.#message('timer', type!, version, data, () => JSON.stringify([partitionKey, name]))
    })
    await this.compare()
  }

  async compare(): Promise<void> {
    const all = this.#waiting
    this.#waiting = []
    this.#characters = 0
    const found: Judged[] = []
    const tookMs = await withinLimit(limitMs, () => {
      for (const each of all) found.push(this.#judged(each))
    })
    if (tookMs !== undefined) {
      for (const [i, each] of all.entries()) count(each, found[i]!)
      return
    }
    this.#renew()
    for (const each of all) await this.#alone(each)
  }

  async #alone(stored: Stored): Promise<void> {
    const { group } = stored
    if (group.stopped) return
    this.#signal?.throwIfAborted()
    let judged: Judged = { issues: `it took more than ${limitMs} ms; a regular expression may backtrack` }
    const tookMs = await withinLimit(limitMs, () => {
      const result = this.#judged(stored)
      judged = result
    })
    count(stored, judged)
    if (tookMs !== undefined) return
    this.#renew()
    if (++group.late >= lateMax) group.stopped = true
  }

  /** An act that was ended may have left its realm in any state. */
  #renew(): void {
    this.#program = this.#program.fresh()
  }

  #message(
    kind: 'request' | 'event' | 'timer',
    type: string,
    version: number,
    text: string,
    at: () => string,
    sent?: string,
  ): Promise<void> | undefined {
    const definitionIn = ({ app }: Program): Request | Event | undefined =>
      kind === 'request' ? app.requests.get(type) : app.events.get(type)
    const known = definitionIn(this.#program)
    if (isSystemMessage(type) || known === undefined || version > known.version) return undefined
    const keys = kind === 'timer' ? undefined : this.#keysOf(kind, type)
    const claimed =
      kind === 'request' ? (judges: readonly string[]) => this.#judges.add(type, judges) : undefined
    const judge = (program: Program): Judged => {
      const definition = definitionIn(program)!
      const value = upcast({ program, checked: false }, definition, version, text, at())
      const schema = definition.kind === 'request' ? definition.input : definition.data
      let issues = issuesOf(schema, value)
      // The output of a schema that transforms need not fit it; then it must be its output for what was sent.
      if (issues !== undefined && sent !== undefined) {
        const ofSent = issuesOf(schema, program.realm.parseFrozen(sent), value)
        if (ofSent === undefined || version === definition.version) issues = ofSent
      }
      try {
        const key: unknown = definition.key(value)
        checkPartitionKey(key, `${kind} "${type}"`)
        const claims = definition.kind === 'request' ? (definition.claims?.(value) ?? []) : []
        return { issues, key, judges: judgesBeside(key, claims) }
      } catch (error) {
        // The key of an event stands in its record.
        return { issues: issues ?? (kind === 'request' ? describe(error).message : undefined) }
      }
    }
    return this.#add({ group: this.#group(kind, type, version), at, judge, keys, claimed }, text)
  }

  #value(
    kind: 'row' | 'effect' | 'result',
    name: string,
    text: string,
    at: () => string,
    schemaIn: (program: Program) => Schema,
  ): Promise<void> | undefined {
    const judge = (program: Program): Judged => ({
      issues: issuesOf(schemaIn(program), program.realm.parseFrozen(text)),
    })
    return this.#add({ group: this.#group(kind, name), at, judge }, text)
  }

  #add(stored: Stored, text: string): Promise<void> | undefined {
    if (stored.group.stopped) return undefined
    this.#waiting.push(stored)
    this.#characters += text.length
    if (this.#waiting.length < groupMax && this.#characters < groupCharacters) return undefined
    return this.compare()
  }

  #judged({ judge }: Stored): Judged {
    const { deriving } = this.#program
    try {
      const judged = judge(this.#program)
      return { ...judged, issues: judged.issues && shown(judged.issues.toWellFormed(), issuesCharacters) }
    } catch (error) {
      return { issues: shown(describe(error).message, issuesCharacters) }
    } finally {
      deriving.active = false
      deriving.slip = undefined
    }
  }

  #group(kind: SchemaFit['kind'], name: string, version?: number): Group {
    const versioned = version === undefined ? {} : { version }
    const group: Group = { kind, name, ...versioned, compared: 0, misfits: 0, samples: [], late: 0 }
    const known = this.#groups.get(nameOf(group)) ?? group
    this.#groups.set(nameOf(group), known)
    return known
  }

  #keysOf(kind: BusyKey['kind'], type: string): FrequentKeys {
    const id = `${kind} ${type}`
    const known = this.#keys.get(id) ?? { kind, type, keys: new FrequentKeys() }
    this.#keys.set(id, known)
    return known.keys
  }
}

/** With fewer messages, a key that most of them have is no note. */
const messagesMin = 300

function count({ group, at, keys, claimed }: Stored, { issues, key, judges }: Judged): void {
  group.compared++
  if (judges !== undefined) claimed?.(judges)
  if (key !== undefined) keys?.add(key)
  if (issues === undefined) return
  group.misfits++
  if (group.samples.length < samplesMax) group.samples.push({ at: shown(at(), 200), issues })
}

/** By which groups are found and sorted; a blank stands in no name. */
function nameOf({ kind, name, version = 0 }: Pick<SchemaFit, 'kind' | 'name' | 'version'>): string {
  return `${kind} ${name} ${String(version).padStart(3)}`
}

/** Validates a value; the schema must return what is stored, by default the value itself. */
function issuesOf(schema: Schema, value: unknown, stored = value): string | undefined {
  // The realm has no promises, so this is not one.
  const result = schema['~standard'].validate(value) as Awaited<ReturnType<Schema['~standard']['validate']>>
  if (result.issues !== undefined) return issuesText(result.issues.slice(0, issuesMax))
  const place = differenceAt(stored, result.value)
  if (place === undefined) return undefined
  const path = place.length === 0 ? 'the value' : place.join('.')
  return `${path}: the schema would set or change it (a default, or a transformation)`
}

/** The first place where a stored value lacks what a schema returned for it. It may hold more. */
function differenceAt(stored: unknown, returned: unknown): string[] | undefined {
  if (stored === returned) return undefined
  const areObjects = typeof stored === 'object' && typeof returned === 'object'
  if (!areObjects || stored === null || returned === null) return []
  if (Array.isArray(stored) !== Array.isArray(returned)) return []
  if (Array.isArray(stored) && stored.length !== (returned as unknown[]).length) return []
  for (const [name, field] of Object.entries(returned)) {
    const own = Object.hasOwn(stored, name) ? (stored as Record<string, unknown>)[name] : undefined
    const place = differenceAt(own, field)
    if (place !== undefined) return [name, ...place]
  }
  return undefined
}

/** How many keys are counted at a time. */
const countedMax = 64

/**
 * Finds the key that more than half of many messages have, in bounded memory: Misra and Gries, *Finding
 * repeated elements* (1982). A count is too low by at most a 65th of the messages, and exact while there were
 * no more than 64 keys.
 */
class FrequentKeys {
  readonly #counts = new Map<string, number>()
  #all = 0

  add(key: string): void {
    this.#all++
    const known = this.#counts.get(key)
    if (known !== undefined || this.#counts.size < countedMax) {
      this.#counts.set(key, (known ?? 0) + 1)
      return
    }
    for (const [each, count] of this.#counts) {
      if (count === 1) this.#counts.delete(each)
      else this.#counts.set(each, count - 1)
    }
  }

  /** The key with the greatest count, and how many keys were added. */
  most(): { readonly key: string; readonly count: number; readonly of: number } {
    let most: readonly [string, number] = ['', 0]
    for (const each of this.#counts) if (each[1] > most[1]) most = each
    return { key: most[0], count: most[1], of: this.#all }
  }
}

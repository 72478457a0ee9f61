import {
  type EmitOptions,
  type Event,
  HenceError,
  type Query,
  type Row,
  type Table,
  type Tx,
} from '../app/index.ts'
import { principalOf, requestIdOf } from '../identity.ts'
import { checkKeyLength, encodeKey, encodePart, type KeyPart } from '../state/keys.ts'
import type { TableState } from '../state/table.ts'
import { checkRow } from './check.ts'
import type { Program } from './program.ts'
import { eventId, RandomStream } from './seed.ts'

/** A program, and the state of its tables. */
export interface Workplace {
  readonly program: Program
  /** By the definition, which is an object of the program's own realm. */
  readonly tables: ReadonlyMap<Table, TableState>
  /** Whether rows and event data are held against their schemas, and every record is derived twice. */
  readonly checked: boolean
}

/** @param tables by name; the same state serves every realm that the app is loaded into */
export function workplace(
  program: Program,
  tables: ReadonlyMap<string, TableState>,
  checked: boolean,
): Workplace {
  const own = new Map<Table, TableState>()
  for (const [name, table] of program.app.tables) own.set(table, tables.get(name)!)
  return { program, tables: own, checked }
}

/** What a derivation is told of the record that it derives from. */
export interface Facts {
  /** The identity of the request at the beginning of the chain. */
  readonly identity: string
  /** Log time of the record, in milliseconds since 1970. */
  readonly time: number
}

/** Where a derivation stands in its chain, and the seed that follows from it. */
export class Origin {
  readonly depth: number
  readonly #seed: () => string
  #known: string | undefined

  constructor(depth: number, seed: () => string) {
    this.depth = depth
    this.#seed = seed
  }

  /** Worked out only when somebody asks, since most derivations never do. */
  get seed(): string {
    this.#known ??= this.#seed()
    return this.#known
  }
}

/** An event on its way from the derivation that emitted it. */
export interface Emission {
  readonly event: Event
  readonly key: string
  readonly data: unknown
  readonly origin: Origin
}

/** The longest chain of events that may follow from one request. */
export const chainDepthMax = 1_000
/** How many events one derivation may emit. */
export const emissionsMax = 10_000

/** What one derivation sees; see the public interface for what each method promises. */
export class Transaction implements Tx {
  readonly key: string
  readonly emissions: Emission[] = []
  readonly #place: Workplace
  readonly #scope: string
  readonly #facts: Facts
  readonly #origin: Origin
  readonly #prefix: string
  #lastKey = ''
  #ended = false
  #random: RandomStream | undefined
  #counts: Map<Event, number> | undefined
  #names: Set<string> | undefined

  constructor(place: Workplace, scope: string, key: string, facts: Facts, origin: Origin) {
    this.#place = place
    this.#scope = scope
    this.key = key
    this.#facts = facts
    this.#origin = origin
    this.#prefix = encodeKey([key])
  }

  get requestId(): string {
    return requestIdOf(this.#facts.identity)
  }

  get principal(): string {
    return principalOf(this.#facts.identity)
  }

  get now(): number {
    return this.#facts.time
  }

  // The state below is the host's own code, which may look at a clock, so the guards are off meanwhile.

  get(table: Table, ...parts: KeyPart[]): never {
    const state = this.#state(table)
    const { deriving } = this.#place.program
    deriving.active = false
    try {
      return state.get(this.#rowKey(table, parts)) as never
    } finally {
      deriving.active = true
    }
  }

  put(table: Table, ...partsThenValue: unknown[]): void {
    const state = this.#state(table)
    const { deriving, realm } = this.#place.program
    const row = realm.seal(partsThenValue.pop())
    const key = this.#rowKey(table, partsThenValue as KeyPart[])
    if (typeof row !== 'object' || row === null) {
      throw new HenceError(
        'row-invalid',
        'change',
        `A row of table "${table.name}" must be an object or a list.`,
      )
    }
    if (this.#place.checked) checkRow(`row of table "${table.name}"`, table.value, row)
    deriving.active = false
    try {
      state.put(key, row)
    } finally {
      deriving.active = true
    }
  }

  delete(table: Table, ...parts: KeyPart[]): boolean {
    const state = this.#state(table)
    const { deriving } = this.#place.program
    deriving.active = false
    try {
      return state.delete(this.#rowKey(table, parts))
    } finally {
      deriving.active = true
    }
  }

  scan(table: Table, query: Query = {}): Row<never, never>[] {
    const state = this.#state(table)
    const { deriving } = this.#place.program
    deriving.active = false
    try {
      const rows = state.scan(query, this.#prefix)
      return rows.map(({ key, value }) => ({ key: key.slice(1), value })) as never
    } finally {
      deriving.active = true
    }
  }

  emit(event: Event, data: unknown, options?: EmitOptions): void {
    this.#assertOpen()
    const { app, realm } = this.#place.program
    if (app.events.get(event.name) !== event) {
      throw new HenceError(
        'unknown-definition',
        'change',
        `The event "${event.name}" has no reaction in the app "${app.name}": list one under \`reactions\`.`,
      )
    }
    if (this.#origin.depth >= chainDepthMax) {
      throw new HenceError(
        'chain-too-deep',
        'change',
        `The event "${event.name}" would be number ${this.#origin.depth + 1} in its chain, and ${chainDepthMax} is the limit: ` +
          'do its reactions emit each other without end?',
      )
    }
    if (this.emissions.length >= emissionsMax) {
      throw new HenceError(
        'too-many-events',
        'change',
        `One derivation may emit ${emissionsMax} events at most.`,
      )
    }
    const sealed = realm.seal(data)
    if (this.#place.checked) checkRow(`data of event "${event.name}"`, event.data, sealed)
    const key = event.key(sealed)
    checkPartitionKey(key, `event "${event.name}"`)
    const name = options?.key === undefined ? this.#ordinal(event) : this.#uniqueName(event, options.key)
    const parent = this.#origin
    const origin = new Origin(parent.depth + 1, () => eventId(parent.seed, event.name, name))
    this.emissions.push({ event, key, data: sealed, origin })
  }

  random(): number {
    return this.#stream().number()
  }

  uuid(): string {
    return this.#stream().uuid()
  }

  /** Called when the derivation has returned; a `tx` that leaked out of it is of no more use. */
  end(): void {
    this.#ended = true
  }

  #stream(): RandomStream {
    this.#assertOpen()
    this.#random ??= new RandomStream(this.#origin.seed)
    return this.#random
  }

  #state(table: Table): TableState {
    this.#assertOpen()
    const state = this.#place.tables.get(table)
    if (state === undefined) {
      throw new HenceError(
        'unknown-definition',
        'change',
        `The table "${table?.name}" is not one of the app's: list it under \`tables\`.`,
      )
    }
    if (table.scope !== this.#scope) {
      throw new HenceError(
        'scope-crossed',
        'change',
        `A derivation of scope "${this.#scope}" used table "${table.name}" of scope "${table.scope}". ` +
          'It reaches only rows under its own partition key: emit an event to the other scope instead.',
      )
    }
    return state
  }

  #rowKey(table: Table, parts: readonly KeyPart[]): string {
    const kinds = table.parts
    let fits = parts.length === kinds.length
    for (let i = 0; fits && i < kinds.length; i++) fits = typeof parts[i] === kinds[i]
    if (!fits) {
      throw new HenceError(
        'key-invalid',
        'change',
        `A row of table "${table.name}" is named by [${kinds.join(', ')}] after its partition key, not by ${JSON.stringify(parts)}.`,
      )
    }
    if (kinds.length === 0) return this.#prefix
    let key = this.#prefix
    for (let i = 0; i < parts.length; i++) key += encodePart(parts[i]!)
    // A row is mostly read before it is put. The same string again need not be hashed again.
    if (key === this.#lastKey) return this.#lastKey
    this.#lastKey = checkKeyLength(key)
    return key
  }

  #ordinal(event: Event): string | number {
    this.#counts ??= new Map()
    const count = this.#counts.get(event) ?? 0
    this.#counts.set(event, count + 1)
    return count
  }

  #uniqueName(event: Event, key: string): string {
    this.#names ??= new Set()
    const name = `${event.name}\0${key}`
    if (this.#names.has(name)) {
      throw new HenceError(
        'event-key-reused',
        'change',
        `Two events "${event.name}" of one derivation have the key ${JSON.stringify(key)}: keys tell them apart.`,
      )
    }
    this.#names.add(name)
    return key
  }

  #assertOpen(): void {
    if (!this.#ended) return
    throw new HenceError(
      'transaction-ended',
      'change',
      'A `tx` was used after its derivation returned. Derivations are synchronous, and keep nothing of `tx`.',
    )
  }
}

/** @throws HenceError `key-invalid`, `key-too-long` (change) */
export function checkPartitionKey(key: unknown, of: string): asserts key is string {
  if (typeof key !== 'string') {
    throw new HenceError(
      'key-invalid',
      'change',
      `The partition key of ${of} must be text, not ${typeof key}.`,
    )
  }
  encodeKey([key])
}

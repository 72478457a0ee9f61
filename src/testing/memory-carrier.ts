import { changeError } from '../failure.ts'
import type { CarriedBatch, Carrier, CarrierBatch, CarrierFacts } from '../log/carrier.ts'

/** The batches of a carrier in memory; several carriers on one store are several processes on one log. */
export class CarrierStore {
  facts: CarrierFacts | undefined
  readonly partitions: CarriedBatch[][] = []
  readonly kept = new Map<string, Buffer>()

  add(partition: number, bytes: Buffer): number {
    const batches = this.of(partition)
    batches.push({ position: batches.length, bytes: Buffer.from(bytes) })
    return batches.length - 1
  }

  of(partition: number): CarriedBatch[] {
    const found = this.partitions[partition]
    if (found !== undefined) return found
    const message = `The log has ${this.partitions.length} partitions; ${partition} is none of them.`
    throw changeError('partition-unknown', message)
  }

  keep(made: CarrierFacts): CarrierFacts {
    this.facts ??= made
    while (this.partitions.length < this.facts.partitions) this.partitions.push([])
    return this.facts
  }
}

/**
 * A carrier in memory. It appends wherever the end is, as a topic of Kafka does; or at the expected position
 * only, as a table of PostgreSQL does.
 */
export function memoryCarrier(
  store: CarrierStore = new CarrierStore(),
  { isConditional = false }: { readonly isConditional?: boolean } = {},
): Carrier {
  return {
    name: 'memory',
    batchBytesMax: 17 * 1024 * 1024,
    facts: async (made) => (made === undefined ? store.facts : store.keep(made)),
    async append(partition: number, { bytes }: CarrierBatch, expected: number) {
      const isFree = !isConditional || store.of(partition).length === expected
      return isFree ? store.add(partition, bytes) : undefined
    },
    async *read(partition, from) {
      const batches = store.of(partition)
      for (let position = from; position < batches.length; position++) yield batches[position]!
    },
    end: async (partition) => store.of(partition).length,
    ends: async () => store.partitions.map(({ length }) => length),
    async put(name, bytes) {
      store.kept.set(name, Buffer.from(bytes))
    },
    get: async (name) => store.kept.get(name),
    close: async () => {},
  }
}

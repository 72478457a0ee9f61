import { randomUUID } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { createEngine, type Engine } from 'hence'
import { partitionOf } from '../src/log/partitions.ts'
import type app from './claims-app.ts'
import { drive, type Run, summary } from './drive.ts'
import { type Bench, median, type Result, settled } from './result.ts'

const inFlight = 64
const productCount = 100

const names = {
  plain: 'without a claim',
  strict: 'one strict claim',
  two: 'strict claims of two keys',
  loose: 'one loose claim',
}

/** Requests with a claim against the same requests without one: in one partition, and across partitions. */
export async function claims({ directory, sized, progress }: Bench): Promise<Result[]> {
  const results: Result[] = []
  for (const partitions of [1, 8]) {
    const data = join(directory, `claims-${partitions}`)
    await mkdir(data, { mode: 0o700 })
    const engine = await createEngine<typeof app>({
      app: import.meta.resolve('./claims-app.ts'),
      data,
      partitions,
    })
    const where = partitions === 1 ? 'in one partition' : 'across partitions'
    try {
      const rounds = sized(5, 2, 1)
      const count = sized(20_000, 3_000, 200)
      const types =
        partitions === 1
          ? (['plain', 'strict', 'two'] as const)
          : (['plain', 'strict', 'two', 'loose'] as const)
      const runs = new Map<string, Run[]>(types.map((type) => [type, []]))
      for (let i = 0; i <= rounds; i++) {
        for (const type of types) {
          const run = await send(engine, type, count, partitions)
          await engine.idle()
          await settled(sized)
          if (i > 0) runs.get(type)!.push(run)
        }
        progress(`claims: ${where}, ${i === 0 ? 'warming up' : `round ${i} of ${rounds}`}`)
      }
      for (const type of types) {
        const ofType = runs.get(type)!
        const ratios = ofType.map(({ perSecond }, i) => perSecond / runs.get('plain')![i]!.perSecond)
        results.push({
          ...summary(ofType),
          what: `${names[type]}, ${where}`,
          ratio: median(ratios),
          note: `${inFlight} in flight; the ratio is to the same request without a claim`,
        })
      }
    } finally {
      await engine.close()
    }
  }
  return results
}

function send(engine: Engine<typeof app>, type: keyof typeof names, count: number, partitions: number) {
  const wishes = Array.from({ length: count }, (_, i) => ({
    requestId: randomUUID(),
    input: {
      order: randomUUID(),
      sku: `product-${i % productCount}`,
      other: `product-${(i + 1) % productCount}`,
    },
  }))
  // The keys of the claims must be in other partitions than that of the order; otherwise nothing crosses
  // partitions.
  for (const { input } of wishes) {
    const taken = [input.sku, input.other].map((key) => partitionOf(key, partitions))
    while (partitions > 1 && taken.includes(partitionOf(input.order, partitions))) input.order = randomUUID()
  }
  return drive(
    inFlight,
    count,
    (i) => engine.submit(type, wishes[i]!.input, { requestId: wishes[i]!.requestId }),
    ({ status }) => {
      if (status !== 'accepted') throw new Error(`An order was ${status}.`)
    },
  )
}

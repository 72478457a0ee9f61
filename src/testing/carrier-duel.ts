import { randomInt } from 'node:crypto'
import { test } from 'node:test'
import { openFileLog } from '../log/file-log/file-log.ts'
import type { CarrierConformance } from './carrier-conformance.ts'
import { duel } from './duel.ts'
import { randomFrom } from './random.ts'
import { simulatedDisk } from './simulated-disk.ts'

const partitions = 2

/**
 * Tests with `node:test` that several processes keep one log over a carrier: their clocks are wrong, their
 * lines lose, delay and repeat what they send, and they are stopped, killed and started again, with and
 * without the end of their local copy. Afterwards every reader finds the same records, each acknowledged one
 * at its offset and once, and none that was reported as absent. The faults follow from a seed, which a
 * failure names; the carrier is the real one.
 */
export function carrierDuel(
  name: string,
  { open, newPlace }: CarrierConformance,
  { duels = 5, seed = randomInt(2 ** 31) }: { readonly duels?: number; readonly seed?: number } = {},
): void {
  for (let each = seed; each < seed + duels; each++) {
    test(`${name}: processes that compete keep one log (seed ${each})`, async (t) => {
      const random = randomFrom(each)
      const disks = Array.from({ length: 4 }, () => simulatedDisk({ random }))
      const place = await newPlace()
      const figures = await duel({
        ...{ random, partitions, connect: () => open(place) },
        open: (process, carrier, clock) => {
          const at = { directory: '/log', disk: disks[process]!, carrier, partitions, clock, follow: true }
          return openFileLog({ ...at, report: () => {}, sealAfterMs: 60_000 })
        },
        died: (process) => (random() < 0.5 ? disks[process]!.endProcess() : disks[process]!.losePower()),
      })
      t.diagnostic(JSON.stringify(figures))
    })
  }
}

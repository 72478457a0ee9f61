import { type Carrier, createEngine, type Engine, systemClock } from 'hence'
import { openDirectory } from '../../src/storage/storage.ts'
import type app from './till.ts'

/** Opens the till with small segments and few rows a checkpoint, so that both change often and a kill hits them. */
export async function openTill(
  directory: string,
  carrier?: Carrier,
  options: { readonly audit?: boolean } = {},
): Promise<Engine<typeof app>> {
  const data = await openDirectory({
    directory,
    carrier,
    partitions: 3,
    clock: systemClock,
    report: () => {},
    segmentBytes: 16 * 1024,
  })
  return createEngine<typeof app>({
    app: import.meta.resolve('./till.ts'),
    data,
    checkpointRows: 60,
    report: () => {},
    ...options,
  })
}

import { resolve } from 'node:path'
import { openEmbedded } from '../../offline/embedded.ts'
import { generationsOf } from '../../server/reprocess.ts'
import { Spool } from '../../server/spool.ts'
import type { ServiceOptions } from '../address.ts'
import { printReport } from '../terminal/output.ts'
import type { Reach } from './reach.ts'

/** Opens a directory with the code that is in force there. Nothing is served, and no effect is delivered. */
export async function openHere({ app, json }: ServiceOptions, data: string): Promise<Reach> {
  const engine = await openEmbedded({ data, app, report: printReport(json === true) })
  const { reprocessing } = engine
  return {
    generations: () => generationsOf(engine),
    start: (module, options) => reprocessing.start({ module: resolve(module) }, options),
    pause: () => reprocessing.pause(),
    resume: () => reprocessing.resume(),
    diff: (samples) => reprocessing.diff({ samples }),
    async differences() {
      const spool = new Spool()
      try {
        const { sha256 } = await reprocessing.diff({ samples: 0, each: (line) => spool.add(line) })
        return { lines: spool.stream(), hash: sha256 }
      } catch (error) {
        spool.drop()
        throw error
      }
    },
    promote: (approval, options) => reprocessing.promote(approval, options),
    discard: () => reprocessing.discard(),
    close: () => engine.close(),
  }
}

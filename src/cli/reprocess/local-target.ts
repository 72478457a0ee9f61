import { openEmbedded } from '../../offline/embedded.ts'
import { generationsOf } from '../../server/reprocess.ts'
import { Spool } from '../../server/spool.ts'
import type { ServiceOptions } from '../address.ts'
import { printReport } from '../terminal/output.ts'
import type { ReprocessTarget } from './target.ts'

/** Opens the engine of a directory with the code that is live there. It serves nothing and delivers no effects. */
export async function localTarget({ app, json }: ServiceOptions, data: string): Promise<ReprocessTarget> {
  const engine = await openEmbedded({ data, app, report: printReport(json) })
  const { reprocessing } = engine
  return {
    generations: () => generationsOf(engine),
    start: (app, options) => reprocessing.start({ app }, options),
    pause: () => reprocessing.pause(),
    resume: () => reprocessing.resume(),
    diff: (samples) => reprocessing.diff({ samples }),
    async differences() {
      const spool = new Spool()
      try {
        const { sha256 } = await reprocessing.diff({ samples: 0, each: (line) => spool.add(line) })
        return { lines: spool.texts(), hash: sha256 }
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

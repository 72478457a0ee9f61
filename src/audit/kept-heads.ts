import { readFile, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { HenceError } from '../failure.ts'
import { headLine, parseHead, type SignedHead } from './head.ts'
import { HeadFile } from './head-file.ts'

const newestName = 'newest-head.json'
const headsName = 'heads.ndjson'

/**
 * The heads of a folder: the file of all of them, and beside it the newest, by which a loss of others is
 * noticed.
 */
export class KeptHeads {
  readonly #folder: string
  readonly #file: HeadFile
  #last: SignedHead | undefined

  /**
   * Opens the heads. Heads that are missing are reported, and the newest, which covers all before it, is
   * added again.
   * @param signedBefore whether the folder has been in use before
   * @throws HenceError `head-invalid` (change)
   */
  static async open(
    folder: string,
    signedBefore: boolean,
    lost: (message: string) => void,
  ): Promise<KeptHeads> {
    const path = join(folder, headsName)
    const wasThere = (await bytesIn(path)) !== undefined
    const newest = await readNewest(folder)
    const file = await HeadFile.open(path)
    const kept = new KeptHeads(folder, file)
    const hasLost = newest !== undefined && !covers(file.last, newest)
    if (hasLost) {
      await kept.add(newest).catch(async (error) => {
        await file.close()
        throw error
      })
    }
    if (hasLost || (signedBefore && !wasThere)) {
      const what = wasThere ? 'ends before the newest signed head' : 'is missing'
      const when = newest === undefined ? '' : `, of ${new Date(newest.time).toISOString()}`
      lost(
        `The file ${path} ${what}${when}. It was removed, cut or put back from an earlier copy. Signing goes on ` +
          `${newest === undefined ? 'without them' : 'after that head'}; put the lost heads back from a ` +
          'copy, or from those who got them.',
      )
    }
    return kept
  }

  private constructor(folder: string, file: HeadFile) {
    this.#folder = folder
    this.#file = file
    this.#last = file.last
  }

  get last(): SignedHead | undefined {
    return this.#last
  }

  /** Makes a head durable. It can be called again after it has failed. */
  async add(head: SignedHead): Promise<void> {
    await this.#file.add(head)
    this.#last = head
    // Not synced: after a loss of power an older one does no harm.
    const path = join(this.#folder, newestName)
    await writeFile(`${path}.unfinished`, headLine(head), { mode: 0o600 })
    await rename(`${path}.unfinished`, path)
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}

/** The newest head of a folder; undefined if there is none, or its file is torn. */
async function readNewest(folder: string): Promise<SignedHead | undefined> {
  try {
    return parseHead(await readFile(join(folder, newestName), 'utf8'))
  } catch (error) {
    if (error instanceof HenceError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Whether heads were signed in a folder before. */
export async function hasHeads(folder: string): Promise<boolean> {
  return (await readNewest(folder)) !== undefined || ((await bytesIn(join(folder, headsName))) ?? 0) > 0
}

async function bytesIn(path: string): Promise<number | undefined> {
  return (await stat(path).catch(() => undefined))?.size
}

function covers(last: SignedHead | undefined, head: SignedHead): boolean {
  return head.partitions.every(({ size }, i) => size <= (last?.partitions[i]?.size ?? 0))
}

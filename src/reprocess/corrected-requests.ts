import { upcastToNewest } from '../app/version.ts'
import { operatorRequests } from '../derivation/operator.ts'
import type { Log, Position } from '../log/log.ts'
import type { RequestRecord } from '../log/record.ts'
import { requestsAt } from '../log/records-at.ts'
import type { Program } from '../sandbox/program.ts'
import { withinLimit } from '../sandbox/watchdog.ts'
import { checkPartitionKey } from '../state/keys.ts'

type AppInRealm = Pick<Program, 'app' | 'realm'>

export interface CorrectedRequest {
  readonly type: string
  readonly input: unknown
  /** Its partition key; undefined if no version of the code returns one. */
  readonly key: string | undefined
}

/** Requests whose keys are computed under one limit, in one turn of the event loop. */
const keysAtOnce = 256

/** Reads requests from the log, with their partition keys. */
export class CorrectedRequests {
  readonly #log: Log
  readonly #load: () => Promise<readonly AppInRealm[]>
  readonly #limitMs: number
  #programs: readonly AppInRealm[] | undefined

  /**
   * @param load loads the versions of the code, for this only: a key that does not end leaves them in pieces
   * @param limitMs how long a key may take, in milliseconds
   */
  constructor(log: Log, load: () => Promise<readonly AppInRealm[]>, limitMs: number) {
    this.#log = log
    this.#load = load
    this.#limitMs = limitMs
  }

  /** Reads requests, by `partition:offset`, with their keys by the first version that returns one. */
  async read(positions: readonly Position[]): Promise<ReadonlyMap<string, CorrectedRequest>> {
    const found: { readonly token: string; readonly record: RequestRecord }[] = []
    for await (const each of requestsAt(this.#log, positions)) found.push(each)
    const keys = await this.#keysOf(found.map(({ record }) => record))
    return new Map(
      found.map(({ token, record: { type, input } }, i) => [
        token,
        { type, input: JSON.parse(input), key: keys[i] },
      ]),
    )
  }

  async #keysOf(records: readonly RequestRecord[]): Promise<(string | undefined)[]> {
    const keys: (string | undefined)[] = []
    // Of the request that is next: how many versions had their turn.
    let tried = 0
    while (keys.length < records.length) {
      this.#programs ??= await this.#load()
      const programs = this.#programs
      const [from, triedBefore] = [keys.length, tried]
      const tookMs = await withinLimit(this.#limitMs, () => {
        while (keys.length < Math.min(from + keysAtOnce, records.length)) {
          const record = records[keys.length]!
          let key = operatorRequests.get(record.type)?.key(JSON.parse(record.input) as never)
          for (; key === undefined && tried < programs.length; tried++)
            key = partitionKey(programs[tried]!, record)
          keys.push(key)
          tried = 0
        }
      })
      if (tookMs !== undefined) continue
      this.#programs = undefined
      // It had the whole time only if it was the first.
      if (keys.length === from && tried === triedBefore) tried++
    }
    return keys
  }
}

/** The partition key of a request by an app; undefined if the app does not know the request, or throws. */
function partitionKey(
  { app: { requests }, realm }: AppInRealm,
  { type, version, input, output }: RequestRecord,
): string | undefined {
  const definition = requests.get(type)
  if (definition === undefined) return undefined
  try {
    const key: unknown = definition.key(
      upcastToNewest(definition, version, realm.parseFrozen(output ?? input)),
    )
    checkPartitionKey(key, `request "${type}"`)
    return key
  } catch {
    // Then the throw is why the outcome differs, and the outcome is corrected without a key.
    return undefined
  }
}

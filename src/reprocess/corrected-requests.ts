import { upcastToNewest } from '../app/version.ts'
import { operatorRequests } from '../derivation/operator.ts'
import type { Log, Position } from '../log/log.ts'
import { decodeRecord, type RequestRecord } from '../log/record.ts'
import { recordsAt } from '../log/records-at.ts'
import type { Program } from '../sandbox/program.ts'
import { checkPartitionKey } from '../state/keys.ts'

type AppInRealm = Pick<Program, 'app' | 'realm'>

export interface CorrectedRequest {
  readonly type: string
  readonly input: unknown
  /** Its partition key; undefined if no version of the code returns one. */
  readonly key: string | undefined
}

/**
 * Reads requests from the log, with their partition keys by the first app that returns one.
 * @returns by `partition:offset`
 */
export async function readRequests(
  log: Log,
  programs: readonly AppInRealm[],
  positions: readonly Position[],
): Promise<ReadonlyMap<string, CorrectedRequest>> {
  const found = new Map<string, CorrectedRequest>()
  for (const [partition, here] of Map.groupBy(positions, ({ partition }) => partition)) {
    const offsets = here.map(({ offset }) => offset).sort((a, b) => a - b)
    for await (const { offset, bytes } of recordsAt(log, partition, offsets)) {
      found.set(`${partition}:${offset}`, requestOf(programs, decodeRecord(bytes) as RequestRecord))
    }
  }
  return found
}

function requestOf(programs: readonly AppInRealm[], record: RequestRecord): CorrectedRequest {
  const { type } = record
  const input = JSON.parse(record.input)
  let key = operatorRequests.get(type)?.key(input as never)
  for (const program of programs) key ??= partitionKey(program, record)
  return { type, input, key }
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

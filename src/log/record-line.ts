import { principalOf, requestIdOf } from '../identity.ts'
import type { LogRecord, RecordedCorrection } from './record.ts'

/** A record, its position and its log time. */
export interface ExportedRecord {
  readonly partition: number
  readonly offset: number
  /** In milliseconds since 1970. */
  readonly time: number
  readonly record: LogRecord
}

/** A record as one line of JSON, with its input as the log holds it; see docs/reference/cli.md. */
export function exportLine({ partition, offset, time, record }: ExportedRecord): string {
  const common = { token: `${partition}:${offset}`, at: time, kind: record.kind }
  const line = (more: object, ...raw: (readonly [name: string, json: string])[]) =>
    `${JSON.stringify({ ...common, ...more }).slice(0, -1)}${raw.map(([name, json]) => `,"${name}":${json}`).join('')}}`
  switch (record.kind) {
    case 'tick':
      return line({})
    case 'control':
      return line({ generation: record.generation, ...record.control })
    case 'correction':
      return line({ generation: record.generation, ...correctionFields(record.correction) })
    case 'ruling': {
      const { kind: derivation, ...ruling } = record.ruling
      return line({ generation: record.generation, derivation, ...ruling })
    }
    case 'mark':
      return line(record.mark)
    case 'watermark':
      return line(record.watermark)
    case 'result': {
      const { effect, done, tries, text } = record
      return done
        ? line({ effect, done, tries }, ['result', text])
        : line({ effect, done, tries, error: text })
    }
    case 'request': {
      const { type, version, input, output } = record
      const raw = output === undefined ? [] : ([['output', output]] as const)
      return line({ type, version, ...senderFields(record.identity) }, ['input', input], ...raw)
    }
    case 'event': {
      const { type, version, identity, key, depth, channelNumber, generation, data } = record
      const where = {
        cause: `${record.causePartition}:${record.causeOffset}`,
        root: `${record.rootPartition}:${record.rootOffset}`,
        id: Buffer.from(record.id, 'latin1').toString('hex'),
      }
      return line(
        { type, version, ...senderFields(identity), key, ...where, depth, channelNumber, generation },
        ['data', data],
      )
    }
  }
}

function correctionFields({ identity, rootPartition, rootOffset, ...rest }: RecordedCorrection): object {
  return { ...rest, ...senderFields(identity), root: `${rootPartition}:${rootOffset}` }
}

function senderFields(identity: string) {
  return { requestId: requestIdOf(identity), principal: principalOf(identity) }
}

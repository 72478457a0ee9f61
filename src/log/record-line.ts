import { senderOf } from '../identity.ts'
import type { LogRecord, RecordedCorrection } from './record.ts'

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
    case 'filled':
      return line({ generation: record.generation, ...record.filled })
    case 'result': {
      const { effect, done, tries, ms, text } = record
      const ended = { effect, done, tries, ...(ms > 0 && { ms }) }
      return done ? line(ended, ['result', text]) : line({ ...ended, error: text })
    }
    case 'request': {
      const { type, version, input, output } = record
      const raw = output === undefined ? [] : ([['output', output]] as const)
      return line({ type, version, ...senderOf(record.identity) }, ['input', input], ...raw)
    }
    case 'event': {
      const { type, version, identity, key, depth, channelNumber, generation, data } = record
      const fields = {
        ...{ type, version, ...senderOf(identity), key },
        cause: `${record.causePartition}:${record.causeOffset}`,
        root: `${record.rootPartition}:${record.rootOffset}`,
        id: Buffer.from(record.id, 'latin1').toString('hex'),
        ...{ depth, channelNumber, generation },
      }
      return line(fields, ['data', data])
    }
  }
}

function correctionFields({ identity, rootPartition, rootOffset, ...rest }: RecordedCorrection): object {
  return { ...rest, ...senderOf(identity), root: `${rootPartition}:${rootOffset}` }
}

import { type LogLook, readLooked } from '../log/file-log/look.ts'
import type { Log } from '../log/log.ts'

/** The log as it was when it was looked at, to be read only. */
export function lookedLog({ id, partitions }: LogLook): Log {
  return {
    id,
    partitions: partitions.length,
    append: () => Promise.reject(new Error('This log is only looked at.')),
    read: (partition, from) => readLooked(partitions[partition]!, from),
    end: async (partition) => {
      const { findings, damage } = partitions[partition]!
      if (findings === undefined) throw damage
      return findings.tip.offset
    },
    close: async () => {},
  }
}

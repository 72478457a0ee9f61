import { type BatchHeader, headerBytes, isContinued, payloadIsWhole, readHeader } from './batch.ts'
import { damaged } from './damage.ts'
import { segmentHeaderBytes } from './segment.ts'
import type { PartitionSnapshot } from './snapshot.ts'
import { Window } from './window.ts'

/** A batch with the bytes that were written. */
interface RawBatch {
  readonly header: BatchHeader
  readonly bytes: Buffer
}

/**
 * Yields all batches of a partition, seals too, up to where the snapshot ends. The caller checks that they
 * follow each other.
 * @throws HenceError `log-damaged` (operator), `log-read-failed` (retry)
 */
export async function* rawBatches({ files, findings, damage }: PartitionSnapshot): AsyncGenerator<RawBatch> {
  if (findings === undefined) throw damage
  const { segments, tip } = findings
  for (const { path, number, size } of segments) {
    const limit = number === segments.length - 1 ? tip.position : size
    const file = await files.disk.open(path, 'read')
    try {
      const window = new Window(file, path)
      for (let position = segmentHeaderBytes; position < limit; ) {
        if (window.indexOf(position, headerBytes) < 0) await window.load(position, headerBytes, limit)
        const header = readHeader(window.bytes, window.indexOf(position, 0), files.lineage)
        if (header === undefined) throw damaged(path, position, 'there is no batch header')
        const length = headerBytes + header.payloadBytes
        if (window.indexOf(position, length) < 0) await window.load(position, length, limit)
        const at = window.indexOf(position, length)
        if (at < 0 || !payloadIsWhole(window.bytes, at, header))
          throw damaged(path, position, 'the payload of the batch is not what was written')
        yield { header, bytes: Buffer.from(window.bytes.subarray(at, at + length)) }
        if (isContinued(header)) break
        position += length
      }
    } finally {
      await file.close()
    }
  }
}

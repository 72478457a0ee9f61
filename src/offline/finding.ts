/** Something that the doctor has found. */
export interface Finding {
  /**
   * `fine`: in order. `warning`: it works, but should be changed. `mended`: the next start mends it. `wrong`:
   * the next start refuses it, or fails over it later.
   */
  readonly level: 'fine' | 'warning' | 'mended' | 'wrong'
  /** A stable word for programs to match on. */
  readonly code: string
  readonly message: string
  readonly file?: string
  readonly byte?: number
  /** The generation that it concerns. */
  readonly generation?: number
  /** Advice: what to do before the next start. */
  readonly todo?: string
}

/** Something that `repair` can do about the findings. Only `end-partition` loses acknowledged records. */
export type Repair =
  /** Cuts unfinished writes off the ends of partitions, as a start does, and keeps a copy. */
  | { readonly kind: 'cut-torn-tail' }
  /** Ends a partition before its damage, and keeps a copy of the segments concerned. */
  | {
      readonly kind: 'end-partition'
      readonly partition: number
      /** The offset that the partition then ends at. */
      readonly offset: number
      readonly file: string
      readonly byte: number
      /** Names the records that are lost: completes "loses …". */
      readonly loss: string
    }
  /** Renames a folder of derived state; the next start derives it again from the log. */
  | {
      readonly kind: 'set-state-aside'
      /** Within the data directory: `state`, or `state/N` for one generation that is not live. */
      readonly folder: string
      readonly reason: string
    }

export type AddFinding = (
  level: Finding['level'],
  code: string,
  message: string,
  more?: Partial<Finding>,
) => void

import type { PartitionSnapshot } from '../log/file-log/snapshot.ts'
import type { Truncation } from '../log/file-log/truncation.ts'

/** What the doctor found. */
export interface Finding {
  /** `fine`; `mended`: an ordinary start sees to it; `wrong`: it does not start, or not for long. */
  readonly level: 'fine' | 'mended' | 'wrong'
  /** A stable word for programs to match on. */
  readonly code: string
  readonly message: string
  readonly file?: string
  readonly byte?: number
  /** Of derived state. */
  readonly generation?: number
  /** What to do about it, other than to start. */
  readonly todo?: string
}

export type Say = (level: Finding['level'], code: string, message: string, more?: Partial<Finding>) => void

/** What may be done about what was found. */
export interface Remedies {
  tornTail: boolean
  readonly truncations: { readonly snapshot: PartitionSnapshot; readonly truncation: Truncation }[]
  /** Why the derived state is of no use. */
  state: string | undefined
  /** The same of single generations that are not live, by the names of their folders. */
  readonly generations: { readonly name: string; readonly why: string }[]
}

/** HENC on a telephone keypad. */
export const portDefault = 4362

/** The options of a command that asks a server or opens a data directory. */
export interface ServiceOptions {
  readonly url: string
  readonly key?: string
  readonly data?: string
  readonly app?: string
  /** With `data`: whether the engine signs tree heads. */
  readonly audit?: boolean
  readonly json?: true
}

/** Who sends a request, and what they may do. */
export interface Caller {
  /** A stable name; ids of requests are told apart by it. At most 255 bytes of UTF-8; may be empty. */
  readonly principal: string
  /** See `Scope`; words that are none are ignored. */
  readonly scopes: readonly string[]
}

/**
 * What a caller may be allowed:
 *
 *   submit        send requests of every type; `submit:TYPE` of one type
 *   read          see all rows, and the story of anybody's request
 *   operate       see metrics, decide what waits for an operator
 *   admin         all of these
 *
 * Without `read`, a caller sees the rows that the `read` rules of their tables let them see.
 */
export type Scope = 'submit' | `submit:${string}` | 'read' | 'operate' | 'admin'

export function allows({ scopes }: Caller, scope: Scope): boolean {
  if (scopes.includes(scope) || scopes.includes('admin')) return true
  return scope.startsWith('submit:') && scopes.includes('submit')
}

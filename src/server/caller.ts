/** The sender of a request, and what they may do. */
export interface Caller {
  /** A stable name; request ids are scoped by it. At most 255 bytes of UTF-8; may be empty. */
  readonly principal: string
  /** See `Permission`; other words are ignored. */
  readonly permissions: readonly string[]
}

/**
 * A caller may be allowed to:
 *
 *   submit        send requests of every type; `submit:TYPE` of one type
 *   read          see all rows, and the story of anybody's request
 *   operate       see metrics, decide what waits for an operator
 *   admin         all of these
 *
 * Without `read`, a caller sees the rows that the `read` rules of their tables let them see.
 */
export type Permission = 'submit' | `submit:${string}` | 'read' | 'operate' | 'admin'

export function allows({ permissions }: Caller, permission: Permission): boolean {
  if (permissions.includes(permission) || permissions.includes('admin')) return true
  return permission.startsWith('submit:') && permissions.includes('submit')
}

import assert from 'node:assert/strict'
import type { Call } from 'hence'

/** One try of an effect, for tests of handlers. */
export function effectCall<Input>(type: string, input: Input, change: Partial<Call> = {}): Call<Input> {
  return {
    type,
    input: input as never,
    id: '0f5c1f8a-0000-8000-8000-000000000001',
    attempt: 1,
    at: Date.UTC(2026, 0, 2, 3, 4, 5, 678),
    requestId: 'r1',
    principal: 'ann',
    key: 'o1',
    signal: new AbortController().signal,
    ...(change as object),
  }
}

/** Returns the error that a handler throws. */
export async function thrown(act: unknown): Promise<Error & { retryAfterMs?: number }> {
  try {
    await act
  } catch (error) {
    return error as Error
  }
  assert.fail('nothing was thrown')
}

import { useMutation, useQueryClient } from '@tanstack/react-query'
import { useRef } from 'react'
import { submit } from './api.ts'

/** A UUID of version 7; `crypto.randomUUID` is missing on pages without TLS. */
export function newRequestId(now = Date.now()): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  for (let i = 0; i < 6; i++) bytes[i] = Math.floor(now / 2 ** (8 * (5 - i))) % 256
  bytes[6] = (bytes[6]! & 0x0f) | 0x70
  bytes[8] = (bytes[8]! & 0x3f) | 0x80
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('')
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
}

/**
 * Sends an operator's decision. Sent again after an error, the same decision has the same id, so it is
 * decided once.
 */
export function useDecision(type: string, onDone: () => void) {
  return useOnce((input: object, requestId) => submit(type, input, requestId), onDone)
}

/** Sends something with an id that stays the same until it has succeeded, or something else is sent. */
export function useOnce<Input extends object, Result>(
  send: (input: Input, requestId: string) => Promise<Result>,
  onDone: (result: Result) => void,
) {
  const queries = useQueryClient()
  const last = useRef<{ readonly text: string; readonly requestId: string }>(undefined)
  return useMutation({
    mutationFn: (input: Input) => {
      const text = JSON.stringify(input)
      if (last.current?.text !== text) last.current = { text, requestId: newRequestId() }
      return send(input, last.current.requestId)
    },
    onSuccess: async (result) => {
      last.current = undefined
      await queries.invalidateQueries()
      onDone(result)
    },
  })
}

import type { Outbox, StoredRequest } from './outbox.ts'

/** An outbox that lasts as long as the process or the page; undecided requests are lost with it. */
export function memory(): Outbox {
  const stored = new Map<string, StoredRequest>()
  return {
    async open() {
      return {
        list: async () => [...stored.values()],
        async add(request) {
          if (!stored.has(request.requestId)) stored.set(request.requestId, request)
        },
        async replace(request) {
          stored.set(request.requestId, request)
        },
        async remove(requestId) {
          stored.delete(requestId)
        },
        async close() {},
      }
    },
  }
}

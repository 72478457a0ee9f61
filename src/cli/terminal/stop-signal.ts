/** The first SIGINT or SIGTERM requests a graceful stop; the second one exits at once. */
export function stopSignal(): { readonly signal: AbortSignal; readonly asked: Promise<void> } {
  const controller = new AbortController()
  const asked = new Promise<void>((resolve) => {
    for (const [name, code] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
    ] as const) {
      process.on(name, () => {
        if (controller.signal.aborted) process.exit(code)
        controller.abort()
        resolve()
      })
    }
  })
  return { signal: controller.signal, asked }
}

/**
 * The name of whoever is at this browser, from the cookie that the site set; the site is asked for one when there is
 * none. It is known offline too, so that the outbox of the right passenger is opened.
 */
export async function passenger(): Promise<string> {
  for (let waitMs = 500; ; waitMs = Math.min(2 * waitMs, 10_000)) {
    const name = named()
    if (name !== undefined) return name
    // One tab at a time, or two that open together would be given a passenger each.
    const isGiven = await navigator.locks.request(
      'session',
      async () => named() !== undefined || askForSession(),
    )
    if (!isGiven) await new Promise((resolve) => setTimeout(resolve, waitMs))
  }
}

function named(): string | undefined {
  return /(?:^|; )seats-passenger=(\w+)/.exec(document.cookie)?.[1]
}

/** Keeps the session that there is, or begins a new one. */
export async function askForSession(): Promise<boolean> {
  try {
    return (await fetch('/session', { method: 'PUT' })).ok
  } catch {
    return false
  }
}

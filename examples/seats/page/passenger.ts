/**
 * The passenger's name, from the site's cookie; without one, from the site. It is also known offline, so that
 * the page opens the right passenger's outbox.
 */
export async function passenger(): Promise<string> {
  for (let waitMs = 500; ; waitMs = Math.min(2 * waitMs, 10_000)) {
    const name = named()
    if (name !== undefined) return name
    // One tab at a time, or two tabs that open together would get a passenger each.
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

/** Keeps the current session, or begins a new one. */
export async function askForSession(): Promise<boolean> {
  try {
    return (await fetch('/session', { method: 'PUT' })).ok
  } catch {
    return false
  }
}

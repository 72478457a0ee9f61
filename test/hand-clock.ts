export { HandClock } from '../src/testing/hand-clock.ts'

/** Waits until everything has happened that does not wait for the clock. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve))
}

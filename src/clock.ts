/** Tells the time; passed in, so that a simulation can drive it. */
export interface Clock {
  /** Milliseconds since 1970. May go backwards; whoever needs it not to must see to that. */
  now(): number
}

/** The clock of the machine. */
export const systemClock: Clock = { now: () => Date.now() }

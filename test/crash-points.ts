/**
 * Where tests crash a process. Each test of a crash names its points, so that a reader can see which moments
 * are covered, and a house test checks that every point has a test.
 */
export const crashPoints = {
  // In the simulations, from one seed.
  'any disk operation': 'the process or the power fails at the n-th operation on a simulated disk',
  'any turn of the event loop': 'simulated storage stops between two turns; appends under way arrive or not',
  // By SIGKILL, in real processes.
  'any system call': 'strace kills the process at its n-th call of a kind on its data directory',
  'during start': 'within the first moments of a process',
  'requests in flight': 'while clients wait for replies',
  'log sealed': 'after a reply, once the log stands still',
  'directory held': 'while other processes wait for the data directory',
  'delivery of effects': 'between the record of an effect and the record of its result',
  'Kafka append': 'while processes append to a topic, on the side of the broker',
  'PostgreSQL transaction': 'while a sink or a relay writes, on either side of the connection',
  'code change': 'while versions of the code take over from each other',
  'candidate deriving': 'while the process of the candidate derives',
  'candidate paused': 'while the candidate is paused',
  'candidate following': 'while the candidate follows the end of the log',
  backup: 'while a data directory is copied',
  views: 'while views are derived, fed and saved',
  'judge cut off': 'while claims wait for a judge whose partition cannot be written',
  diff: 'while two generations are compared',
  promotion: 'between the request for a promotion and its last correction',
} as const

export type CrashPoint = keyof typeof crashPoints

/** The name of a test that crashes a process at these points. */
export function crashAt(points: CrashPoint | readonly CrashPoint[], claim: string): string {
  return `crash at ${[points].flat().join(', ')}: ${claim}`
}

import type { Draw } from './random.ts'

export const faults = {
  crash: 'the process dies at any operation',
  power: 'the process dies, and random parts of what was not synced are lost',
  disk: 'operations of the disk fail; a failed write may be partial, and a failed fsync loses data',
  full: 'the disk is full for a while',
  rot: 'a bit of the log flips while no process runs',
  network: 'messages between clients and server are lost, doubled and late',
  clients: 'a client dies, and another goes on with its outbox',
  receivers: 'receivers of effects do not answer, or their answer is lost',
  clock: 'the clock of the machine jumps, and is set right later',
  pause: 'the process stands still for a while',
} as const

export type FaultName = keyof typeof faults

/** One step of a simulation, as data: a plan can be printed, and shortened. */
export type Step = {
  /** Turns of the event loop before it. */
  readonly turns: number
} & (
  | {
      readonly do: 'send'
      readonly client: number
      readonly queue: number
      readonly sent: readonly [type: string, input: unknown]
    }
  | { readonly do: 'send again'; readonly nth: number }
  | { readonly do: 'die'; readonly operations: number; readonly losePower: boolean; readonly downMs: number }
  | { readonly do: 'fail disk'; readonly operations: number; readonly isFull: boolean }
  | { readonly do: 'flip a bit' }
  | { readonly do: 'replace client'; readonly client: number }
  | { readonly do: 'disturb network' | 'disturb receivers'; readonly share: number; readonly forMs: number }
  | { readonly do: 'jump clock'; readonly ms: number; readonly forMs: number }
  | { readonly do: 'pause'; readonly ms: number }
)

export function planOf(
  draw: Draw,
  options: {
    readonly clients: number
    readonly requests: number
    readonly faults: readonly FaultName[]
    readonly next: (draw: Draw) => readonly [type: string, input: unknown]
  },
): readonly Step[] {
  const { clients, requests } = options
  const plan: Step[] = []
  for (let nth = 0; nth < requests; nth++) {
    const turns = draw.one(0, 0, 0, 1, 2, 6)
    const client = draw.below(clients)
    plan.push({ turns, do: 'send', client, queue: draw.below(2), sent: options.next(draw) })
    if (draw.chance(0.1)) plan.push({ turns: draw.below(20), do: 'send again', nth: draw.below(nth + 1) })
    if (options.faults.length > 0 && draw.chance(0.15)) {
      plan.push({ turns: draw.below(10), ...faultOf(draw.one(...options.faults), draw, clients) })
    }
  }
  return plan
}

type PlannedFault = Step extends infer S ? (S extends Step ? Omit<S, 'turns'> : never) : never

function faultOf(name: FaultName, draw: Draw, clients: number): PlannedFault {
  const share = draw.one(0.1, 0.3, 1)
  const forMs = draw.one(100, 2_000, 30_000)
  const operations = 1 + draw.below(draw.one(10, 60, 400))
  switch (name) {
    case 'crash':
    case 'power':
      return { do: 'die', operations, losePower: name === 'power', downMs: draw.below(2_000) }
    case 'disk':
    case 'full':
      return { do: 'fail disk', operations: 1 + draw.below(30), isFull: name === 'full' }
    case 'rot':
      return { do: 'flip a bit' }
    case 'network':
      return { do: 'disturb network', share, forMs }
    case 'receivers':
      return { do: 'disturb receivers', share, forMs }
    case 'clients':
      return { do: 'replace client', client: draw.below(clients) }
    case 'clock':
      return { do: 'jump clock', ms: draw.one(-1, 1) * draw.one(500, 50_000, 86_400_000), forMs }
    case 'pause':
      return { do: 'pause', ms: draw.one(50, 1_000, 60_000) }
  }
}

export function textOf({ turns, ...step }: Step): string {
  const { do: what, ...rest } = step
  const of = Object.entries(rest).map(([name, value]) => `${name} ${JSON.stringify(value)}`)
  return `after ${turns} turns ${what}${of.length > 0 ? `: ${of.join(', ')}` : ''}`
}

/** Removes steps from a plan while it still fails: delta debugging (Zeller and Hildebrandt 2002). */
export async function shrunk(
  plan: readonly Step[],
  fails: (plan: readonly Step[]) => Promise<boolean>,
  runsMax: number,
): Promise<readonly Step[]> {
  let least = plan
  let runs = 0
  for (let size = Math.ceil(plan.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let from = 0; from < least.length && runs < runsMax; ) {
      const fewer = [...least.slice(0, from), ...least.slice(from + size)]
      runs++
      if (await fails(fewer)) least = fewer
      else from += size
    }
  }
  return least
}

import { createHash } from 'node:crypto'
import { relative } from 'node:path'
import type { App, RequestInput, RequestName, Row, TableKey, TableName, TableValue } from '../app/index.ts'
import type { Handlers } from '../effect/handlers.ts'
import { changeError, thrownText } from '../failure.ts'
import { type AppSource, bundleApp } from '../sandbox/bundle.ts'
import { sandboxed } from '../sandbox/program.ts'
import { Draw } from './random.ts'
import { type Observed, type SimulationRun, simulated } from './simulation.ts'
import { type FaultName, faults, planOf, type Step, shrunk, textOf } from './simulation-plan.ts'

/** Everything that an invariant sees, after each record and at the end. */
export interface Observation<A extends App> extends Omit<Observed, 'tables'> {
  /** The rows of a table, in the order of their keys. */
  rows<N extends TableName<A>>(table: N): Row<TableKey<A, N>, TableValue<A, N>>[]
}

export interface SimulateOptions<A extends App> {
  /** Chooses the next request of some client: `['pay', { … }]`. All its randomness must come from `draw`. */
  readonly clients: (
    draw: Draw,
  ) => { readonly [N in RequestName<A>]: readonly [type: N, input: RequestInput<A, N>] }[RequestName<A>]
  /**
   * Throws if something is not as it must be. It is called after each record, with the tables as they are
   * then, and at the end, when nothing is under way.
   */
  readonly invariant: (observed: Observation<A>) => void
  /** The receivers of effects. Each effect is done once; receivers know ids. Default: they return nothing. */
  readonly receivers?: Partial<Handlers<A>>
  /** The faults to inject. Default: all. */
  readonly faults?: Partial<Readonly<Record<FaultName, boolean>>>
  /** The first seed. Default: the environment variable HENCE_SEED, or 1. */
  readonly seed?: number
  /** How many seeds. Default: the environment variable HENCE_RUNS, or 20. */
  readonly runs?: number
  /** How many requests in each run. Default 60. */
  readonly requests?: number
}

/** Sums over all runs, and a hash of everything that happened: it is the same for the same seeds and code. */
export type Simulated = SimulationRun & { readonly runs: number }

const clientCount = 3
const shrinkRunsMax = 150

/**
 * Runs an app from one seed, in this process, while faults are injected: clients with outboxes, a network,
 * the HTTP server, the engine, its log on a simulated disk, receivers of effects, and clocks.
 *
 * Beside the invariant it checks that every request is decided in the end, that every retry gets the first
 * outcome, that no effect is sent with two contents, and that the log alone derives the same tables.
 *
 * @throws Error with the seed, the shortest plan that still fails, and the command that runs it again
 */
export async function simulate<A extends App>(
  app: AppSource<A>,
  options: SimulateOptions<A>,
): Promise<Simulated> {
  const { runs = Number(process.env['HENCE_RUNS'] ?? 20), requests = 60 } = options
  const first = Number(process.env['HENCE_SEED'] ?? options.seed ?? 1)
  const bundle = await bundleApp(app)
  const injected = (Object.keys(faults) as FaultName[]).filter((name) => options.faults?.[name] ?? true)
  const receivers = receiversOf(sandboxed(bundle).app, options.receivers ?? {})
  const sum = { requests: 0, processes: 0, operations: 0, deliveries: 0, retries: 0 }
  const hash = createHash('sha256')
  for (let seed = first; seed < first + runs; seed++) {
    const world = {
      app: bundle,
      seed,
      clients: clientCount,
      receivers,
      invariant: ({ tables, ...observed }: Observed) =>
        options.invariant({ ...observed, rows: (table) => tables.get(table) as never }),
    }
    const next = options.clients as (draw: Draw) => readonly [string, unknown]
    const plan = planOf(new Draw(-seed), { clients: clientCount, requests, faults: injected, next })
    try {
      const run = await simulated(plan, world)
      hash.update(run.hash)
      for (const name of Object.keys(sum) as (keyof typeof sum)[]) sum[name] += run[name]
    } catch (error) {
      throw await failed(seed, plan, error, (fewer) => simulated(fewer, world))
    }
  }
  return { ...sum, runs, hash: hash.digest('hex') }
}

async function failed(
  seed: number,
  plan: readonly Step[],
  first: unknown,
  run: (plan: readonly Step[]) => Promise<unknown>,
): Promise<Error> {
  let last = first
  const fails = async (fewer: readonly Step[]) => {
    try {
      await run(fewer)
      return false
    } catch (error) {
      last = error
      return true
    }
  }
  const least = await shrunk(plan, fails, shrinkRunsMax)
  const steps = least.map((step, index) => `  ${index + 1}. ${textOf(step)}`)
  const { execArgv, argv, env } = process
  // Node's test runner gives its processes a hundred flags more; these are needed to find the modules.
  const flags = execArgv.join(' ').match(/(?<!\S)(-[Cr]|--import) \S+/g) ?? []
  const runner = env['NODE_TEST_CONTEXT'] === undefined ? [] : ['--test']
  const command = ['node', ...flags, ...runner, ...(argv[1] ? [relative('.', argv[1])] : [])].join(' ')
  const message = thrownText(last)
  return new Error(
    `Seed ${seed} fails: ${message}\n\n${least.length} of its ${plan.length} steps are enough:\n` +
      `${steps.join('\n')}\n\nRun it again: HENCE_SEED=${seed} HENCE_RUNS=1 ${command}`,
    { cause: last },
  )
}

function receiversOf<A extends App>(app: App, given: Partial<Handlers<A>>) {
  const all: Record<string, never> = { ...(given as object) }
  for (const { name, output } of app.effects.values()) {
    if (name in all) continue
    if (output !== undefined) {
      throw changeError(
        'option-invalid',
        `The effect "${name}" has a result: give \`simulate\` a receiver for it, { ${name}: (call) => … }.`,
      )
    }
    all[name] = (() => undefined) as never
  }
  return all
}

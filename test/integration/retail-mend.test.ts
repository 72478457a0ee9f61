import assert from 'node:assert/strict'
import { createHash, randomInt } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { formatMoney } from '../../examples/retail/money.ts'
import { readPost } from '../../examples/retail/post.ts'
import { sample } from '../../examples/retail/sample.ts'
import { crashAt } from '../crash-points.ts'
import { randomFrom } from '../random.ts'
import {
  differingFields,
  type Paper,
  papersOfFile,
  papersOfSample,
  revenueBy,
  type Wrong,
  wrongBy,
} from './retail-oracle.ts'
import { importOnce, isLong, newDirectory, realOrders, rounds, startRetail } from './retail-process.ts'

// The books of version 1 are derived again by version 2, compared, promoted, corrected and rolled back, by a
// process that is killed in each of these steps. The worst result would be a letter to a customer whose total
// was right, or a wrong row that the diff does not list; then a missing letter; then two letters to one
// customer.

/** The number of sample orders in a short run. */
const orders = isLong ? 20_000 : 2_500
const seed = Number(process.env['HENCE_SEED'] ?? randomInt(2 ** 31))

/** In order. `start` is everything before the first of them, which is recovery. */
const steps = ['start', 'import', 'reprocess', 'compare', 'promote', 'deliver', 'roll-back'] as const
type Step = (typeof steps)[number]

/** The line that the process prints when a step starts and when it is done. */
type Told = { readonly step: Step } & (
  | { readonly begins: true }
  | {
      readonly begins?: undefined
      readonly revenue: string
      readonly digest: string
      readonly sha256: string
    }
)

/**
 * When to kill: in a step, or in the first later one that is not done yet; `correct` is the second half of
 * `promote`.
 */
interface Killing {
  readonly step: Step | 'correct'
  /** How far into the step, from 0 to 1. */
  readonly part: number
  lengthMs(step: Step): number
}

/** About how long it takes to write the corrections and to apply them. */
const correctMs = 30

/** Runs until the process exits or is killed; returns its lines, with the time since the start. */
async function mend(source: readonly string[], directory: string, killing?: Killing) {
  const told: { readonly fact: Told; readonly atMs: number }[] = []
  let dying: Promise<void> | undefined
  // A step may be shorter than when it was measured.
  const next = Promise.withResolvers<void>()
  const isDue = (step: Step) => {
    const wanted = killing?.step === 'correct' ? 'promote' : killing?.step
    return wanted !== undefined && steps.indexOf(step) >= steps.indexOf(wanted)
  }
  const dieIn = async (step: Step) => {
    const { part, lengthMs } = killing!
    if (killing!.step === 'correct' && step === 'promote') {
      await correctionsAreKept(join(directory, 'shop'), child.ended)
      await delay(part * correctMs)
    } else {
      await Promise.race([delay(part * lengthMs(step)), next.promise])
    }
    child.kill('SIGKILL')
  }
  const startedAt = performance.now()
  const hear = (line: string) => {
    if (!line.startsWith('{"step"')) return
    const fact: Told = JSON.parse(line)
    told.push({ fact, atMs: performance.now() - startedAt })
    if (!fact.begins) return
    if (dying) next.resolve()
    else if (isDue(fact.step)) dying = dieIn(fact.step)
  }
  const child = startRetail([...source, '--data', directory, '--json'], hear, 'mend')
  if (killing?.step === 'start') dying = dieIn('start')
  const { code, signal, err } = await child.ended
  await dying
  assert.ok(signal === 'SIGKILL' || code === 0, `exit code ${code}\n${err.join('\n')}`)
  return { told, isKilled: signal === 'SIGKILL' }
}

/**
 * Resolves once a promotion has stored its correction files, just before its record, or once the process has
 * exited.
 */
async function correctionsAreKept(data: string, ended: Promise<unknown>): Promise<void> {
  let isOver = false
  void ended.then(() => {
    isOver = true
  })
  const names = async () => await readdir(join(data, 'promotions')).catch(() => [])
  while (!isOver && !(await names()).some((name) => name.endsWith('.json'))) await delay(1)
}

const sources: { name: string; args: string[]; papers(): Promise<Paper[]> }[] = [
  {
    name: 'the sample',
    args: ['--orders', String(orders), '--partitions', '4'],
    papers: async () => papersOfSample(sample({ orders })),
  },
]
if (realOrders && isLong) {
  const file = realOrders
  sources.push({ name: 'the real file', args: ['--csv', file], papers: () => papersOfFile(file) })
}

for (const source of sources) {
  const { name } = source
  test(`${name}: version 2 lists the errors of version 1, mends them, sends letters, and is rolled back`, async (context) => {
    const papers = await source.papers()
    const counts = Map.groupBy(wrongBy(papers), ({ name }) => name.split(' ')[0]!)
    context.diagnostic(`wrong: ${[...counts].map(([what, { length }]) => `${length} ${what}`).join(', ')}`)
    const right = await importOnce(...source.args, '--data', await newDirectory(context))
    assert.equal(right.revenue, formatMoney(revenueBy(papers, 2)))

    const directory = await newDirectory(context)
    const { told } = await mend(source.args, directory)
    const digest = await assertMended(
      directory,
      papers,
      told.map(({ fact }) => fact),
      right.digest,
    )
    const begun = told.filter(({ fact }) => fact.begins)
    assert.deepEqual(['start', ...begun.map(({ fact }) => fact.step)], steps)
    const beginnings = [0, ...begun.map(({ atMs }) => atMs), told.at(-1)!.atMs]
    const lengthMs = (step: Step) => {
      const i = steps.indexOf(step)
      return beginnings[i + 1]! - beginnings[i]!
    }
    context.diagnostic(steps.map((step) => `${step} ${Math.round(lengthMs(step))} ms`).join(', '))

    const random = randomFrom(seed)
    const killings = (): Killing[] =>
      steps
        .flatMap((step) => (step === 'promote' ? [step, 'correct' as const] : [step]))
        .map((step) => ({ step, part: random(), lengthMs }))
    for (let round = 0; round < (rounds ?? 1); round++) {
      await context.test(
        crashAt(['during start', 'candidate deriving', 'promotion'], `round ${round} (HENCE_SEED=${seed})`),
        async (context) => {
          const directory = await newDirectory(context)
          const told: Told[] = []
          const diedIn: string[] = []
          for (const killing of [...killings(), undefined]) {
            const life = await mend(source.args, directory, killing)
            told.push(...life.told.map(({ fact }) => fact))
            if (life.isKilled) diedIn.push(life.told.at(-1)?.fact.step ?? 'start')
          }
          context.diagnostic(`it died in ${diedIn.join(', ')}`)
          assert.ok(diedIn.length > 4, 'too few steps were killed')
          assert.equal(await assertMended(directory, papers, told, right.digest), digest)
        },
      )
    }
  })
}

/**
 * @param told the lines of all processes that worked on this directory
 * @returns the digest of version 1's books
 */
async function assertMended(
  directory: string,
  papers: readonly Paper[],
  told: readonly Told[],
  rightDigest: string,
): Promise<string> {
  const facts = (step: Step) => {
    const of = told.flatMap((fact) => (fact.step === step && !fact.begins ? [fact] : []))
    for (const fact of of) assert.deepEqual(fact, of[0], 'a repeated line differs')
    return of[0]
  }
  // A killed process may lose some of its lines, but not all of them.
  const [imported, compared, promoted, back] = (['import', 'compare', 'promote', 'roll-back'] as const).map(
    facts,
  )

  const wrong = wrongBy(papers)
  const differences = await readFile(join(directory, 'differences.ndjson'), 'utf8')
  assert.deepEqual(differences.trimEnd().split('\n').map(nameDifference).sort(byName), wrong)
  if (compared) assert.equal(createHash('sha256').update(differences).digest('hex'), compared.sha256)

  assert.ok(back)
  assert.equal(back.revenue, formatMoney(revenueBy(papers, 1)))
  if (imported) assert.equal(back.digest, imported.digest)
  if (promoted) {
    assert.equal(promoted.revenue, formatMoney(revenueBy(papers, 2)))
    assert.equal(promoted.digest, rightDigest)
  }
  assert.notEqual(back.digest, rightDigest)

  // A letter may arrive twice under one id, but no customer gets a second letter, and nobody else gets one.
  const letters = new Map<string, { to: string; text: string }>()
  for (const { id, to, text } of await readPost(join(directory, 'post.ndjson'))) {
    assert.deepEqual(letters.get(id) ?? { to, text }, { to, text })
    letters.set(id, { to, text })
  }
  const expected = wrong.flatMap(({ name, before, after }) => {
    const [table, customer] = name.split(' ') as [string, string]
    return table === 'customers' ? [{ customer, before: before!['spent']!, after: after!['spent']! }] : []
  })
  assert.deepEqual(
    [...letters.values()].map(({ to }) => to).sort(),
    expected.map(({ customer }) => `customer-${customer}@example.com`).sort(),
  )
  const texts = new Map([...letters.values()].map(({ to, text }) => [to, text]))
  for (const { customer, before, after } of expected) {
    const text = texts.get(`customer-${customer}@example.com`)!
    assert.deepEqual(text.match(/-?\d+\.\d{3}/g), [formatMoney(before), formatMoney(after)])
  }
  return back.digest
}

/** A line of the diff in the form of the oracle. */
function nameDifference(line: string): Wrong {
  const { kind, table, key, principal, requestId, before, after } = JSON.parse(line)
  if (kind === 'row') return { name: `${table} ${key.join(' ')}`, ...differingFields(before, after)! }
  if (kind === 'outcome' && before?.status === 'accepted' && after?.status === 'accepted') {
    return {
      name: `outcome ${principal} ${requestId}`,
      ...differingFields(before.value, after.value)!,
    } as Wrong
  }
  return { name: line, before: undefined, after: undefined }
}

function byName(a: Wrong, b: Wrong): number {
  return a.name < b.name ? -1 : 1
}

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { crashAt } from '../crash-points.ts'
import { freePort } from '../free-port.ts'
import { hence, Running } from '../hence-process.ts'
import { randomFrom } from '../random.ts'
import { ManyClients } from './many-clients.ts'

// A server under steady load, for as long as HENCE_MINUTES says, with backups, reprocessing, promotions and
// kills. Its memory, its open files and its disk must keep within bounds, and no reply may be lost.

const minutes = Number(process.env['HENCE_MINUTES'] ?? 0)
const seed = Number(process.env['HENCE_SEED'] ?? randomInt(2 ** 31))
const app = fileURLToPath(import.meta.resolve('./till.ts'))
/** Replies between two events of a round. With its pauses the load is about 40 requests a second. */
const stage = minutes === 0 ? 60 : 2_000

const memoryMiBMax = 512
const openFilesMax = 160
/** The live state and that of a candidate, for each byte of the log, and what they begin with. */
const stateOfLogMax = 12
const stateMiBFirst = 32

interface Sample {
  readonly memoryMiB: number
  /** Of the processes that derive a candidate, or rehearse. */
  readonly childrenMiB: number
  readonly openFiles: number
  readonly logMiB: number
  readonly stateMiB: number
}

/** A process with its children. */
function processesOf(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean)
  return [pid, ...children.flatMap((child) => processesOf(Number(child)))]
}

function sampleOf(pid: number, data: string): Sample {
  // Without the pages of mapped files, which the kernel takes back when it needs them.
  const [memoryMiB, ...children] = processesOf(pid).map((each) => {
    const kibibytes = /RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${each}/status`, 'utf8'))?.[1] ?? 0
    return Math.round(Number(kibibytes) / 1024)
  }) as [number, ...number[]]
  const mebibytes = (folder: string) =>
    Number(execFileSync('du', ['-sk', join(data, folder)], { encoding: 'utf8' }).split('\t')[0]) / 1024
  return {
    memoryMiB,
    childrenMiB: children.reduce((sum, each) => sum + each, 0),
    openFiles: readdirSync(`/proc/${pid}/fd`).length,
    logMiB: mebibytes('log'),
    stateMiB: mebibytes('state'),
  }
}

const name = crashAt(
  ['requests in flight', 'candidate deriving', 'candidate following'],
  `${minutes} minutes with backups, promotions and kills stay within bounds (HENCE_SEED=${seed})`,
)
test(name, { skip: process.platform !== 'linux', timeout: (minutes + 40) * 60_000 }, async (t) => {
  const random = randomFrom(seed)
  const home = await mkdtemp(join(tmpdir(), 'hence-soak-'))
  const data = join(home, 'data')
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const args = ['start', app, '--data', data, '--partitions', '3', '--audit', '--open', '--port', `${port}`]
  let server: Running | undefined
  let load: ManyClients | undefined
  t.after(async () => {
    server?.process.kill('SIGKILL')
    await load?.close()
    await rm(home, { recursive: true })
  })
  const start = async () => {
    server = new Running(args)
    await server.line(/listens on/)
    return server
  }
  const begun = performance.now()
  let live = await start()
  const run = async (args: readonly string[]) => {
    const { code, stdout, stderr } = await hence([...args, '--json'])
    assert.equal(code, 0, `hence ${args.join(' ')}: ${stderr}`)
    return JSON.parse(stdout.trim().split('\n').at(-1)!)
  }
  const many = new ManyClients(8, url, random, 200)
  load = many

  const samples: Sample[] = []
  const counts = { rounds: 0, kills: 0, backups: 0, promotions: 0 }
  const sample = () => {
    try {
      samples.push(sampleOf(live.process.pid!, data))
    } catch (error) {
      // A process or a file that ended meanwhile.
      if ((error as NodeJS.ErrnoException).code === 'ESRCH') return
    }
  }
  const sampling = setInterval(sample, minutes === 0 ? 500 : 5_000)
  t.after(() => clearInterval(sampling))
  const kill = async () => {
    live.process.kill('SIGKILL')
    await live.ended
    live = await start()
    counts.kills++
  }

  while (counts.rounds === 0 || performance.now() - begun < minutes * 60_000) {
    await many.replies(stage)
    const to = join(home, 'backup')
    assert.equal((await run(['backup', '--data', data, '--to', to])).ok, true)
    await rm(to, { recursive: true })
    counts.backups++

    await many.replies(stage)
    const reprocess = (...given: readonly string[]) => run(['reprocess', ...given, '--url', url])
    await reprocess('run', app, '--data', data, '--again', '--detach')
    // In every second round with the candidate half-way; it goes on by itself.
    if (counts.rounds % 2 === 1) await kill()
    await reprocess('run')
    const { sha256, differences } = await reprocess('diff')
    assert.equal(differences, 0)
    await reprocess('promote', '--diff', sha256, '--yes')
    counts.promotions++
    await many.replies(stage)
    await reprocess('discard', '--yes')

    await many.replies(stage)
    sample()
    await kill()
    counts.rounds++
    if (minutes > 0) {
      const elapsed = Math.round((performance.now() - begun) / 1000)
      process.stdout.write(`${elapsed} s: ${JSON.stringify({ ...counts, ...samples.at(-1) })}\n`)
    }
  }
  clearInterval(sampling)
  await many.stop()
  await many.check()
  sample()
  assert.equal(await live.stop(), 0, live.errors)
  const verified = await run(['verify', '--data', data])
  assert.deepEqual([verified.ok, verified.history.checked], [true, true])

  const quarter = Math.ceil(samples.length / 4)
  const largest = (of: readonly Sample[], what: keyof Sample) => Math.max(...of.map((each) => each[what]))
  const [early, late] = [samples.slice(0, 2 * quarter), samples.slice(-quarter)]
  const figures = {
    ...{ minutes, requests: many.told.size, ...counts, ...many.counts },
    memoryMiB: [largest(early, 'memoryMiB'), largest(late, 'memoryMiB')],
    childrenMiB: [largest(early, 'childrenMiB'), largest(late, 'childrenMiB')],
    openFiles: [largest(early, 'openFiles'), largest(late, 'openFiles')],
    ...{ logMiB: largest(samples, 'logMiB'), stateMiB: largest(samples, 'stateMiB') },
  }
  t.diagnostic(JSON.stringify(figures))
  for (const { memoryMiB, childrenMiB, openFiles, logMiB, stateMiB } of samples) {
    assert.ok(memoryMiB <= memoryMiBMax, `${memoryMiB} MiB of memory`)
    assert.ok(childrenMiB <= memoryMiBMax, `${childrenMiB} MiB of memory of children`)
    assert.ok(openFiles <= openFilesMax, `${openFiles} open files`)
    assert.ok(
      stateMiB <= stateMiBFirst + stateOfLogMax * logMiB,
      `${stateMiB} MiB of state, ${logMiB} of log`,
    )
  }
  const [before, after] = figures.memoryMiB as [number, number]
  if (minutes > 0) assert.ok(after <= 1.25 * before, `memory grew from ${before} to ${after} MiB`)
})

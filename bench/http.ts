import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { createEngine } from 'hence'
import type app from './app.ts'
import { drive, medianProcessor, type Run, summary } from './drive.ts'
import { type HttpRequest, KeptConnection } from './http-load.ts'
import type { Serves } from './http-serving-process.ts'
import { type Payment, payments } from './payment.ts'
import { startBench } from './process.ts'
import { processorMicrosOfChild } from './processor.ts'
import { type Bench, median, type Result, settled } from './result.ts'

const connections = 64

/**
 * Requests over HTTP against a POST on `node:http` that reads and parses the same body, and Hono's "hello",
 * with each server in its own process and the load in this one; and an NDJSON batch against `engine.submit`
 * in this process. Processor time is that of the server.
 */
export async function http({ directory, sized, progress }: Bench): Promise<Result[]> {
  await mkdir(join(directory, 'http'), { mode: 0o700 })
  await mkdir(join(directory, 'http-in-process'), { mode: 0o700 })
  const hello = startBench('http-serving-process.ts', ['hello'])
  const parse = startBench('http-serving-process.ts', ['parse'])
  const hence = startBench('http-serving-process.ts', ['hence', join(directory, 'http')])
  const engine = await createEngine<typeof app>({
    app: import.meta.resolve('./app.ts'),
    data: join(directory, 'http-in-process'),
  })
  const rounds = sized(5, 2, 1)
  const count = sized(40_000, 10_000, 500)
  const batchCount = sized(100_000, 20_000, 1_000)
  let made = 0
  const some = (number: number): Payment[] => {
    made += number
    return payments(made - number, number)
  }
  try {
    const [[helloServes], [parseServes], [henceServes]] = (await Promise.all([
      once(hello, 'message'),
      once(parse, 'message'),
      once(hence, 'message'),
    ])) as [[Serves], [Serves], [Serves]]
    const round = async (number: number, batchNumber: number) => {
      const floor = await measured(hello, number, () => load(helloServes.port, number, () => hello200))
      const wishes = some(number)
      const parsed = await measured(parse, number, () =>
        load(parseServes.port, number, (i) => requestOf(wishes[i]!)),
      )
      const single = await measured(hence, number, () =>
        load(henceServes.port, number, (i) => requestOf(wishes[i]!)),
      )
      await settled(sized)
      const inProcess = await drive(1_024, batchNumber, submitting(engine, some(batchNumber)))
      await settled(sized)
      const batch = await measured(hence, batchNumber, () => sendBatch(henceServes.port, some(batchNumber)))
      await settled(sized)
      return { floor, parsed, single, inProcess, batch }
    }
    progress('http: warming up')
    await round(count / 2, batchCount / 2)
    const done = []
    for (let i = 1; i <= rounds; i++) {
      const last = await round(count, batchCount)
      done.push(last)
      progress(
        `http: round ${i} of ${rounds}: hello ${perSecond(last.floor)}, parsed ${perSecond(last.parsed)}, single ${perSecond(last.single)}, ` +
          `in process ${perSecond(last.inProcess)}, batch ${perSecond(last.batch)}`,
      )
    }
    const singles = median(done.map((each) => each.single.perSecond / each.parsed.perSecond))
    const note = 'the ratio is to the POST on node:http, or to the line above, not to the bare loop'
    const batches = median(done.map((each) => each.batch.perSecond / each.inProcess.perSecond))
    return [
      { ...summary(done.map(({ floor }) => floor)), what: `Hono "hello", ${connections} connections` },
      {
        ...summary(done.map(({ parsed }) => parsed)),
        what: `a POST on node:http that parses the same body, ${connections} connections`,
        ratio: 1,
      },
      {
        ...summary(done.map(({ single }) => single)),
        what: `POST /requests/pay, ${connections} connections`,
        ratio: singles,
        note,
      },
      {
        ...summary(done.map(({ inProcess }) => inProcess)),
        what: 'engine.submit in process, 1,024 in flight',
      },
      {
        figure: median(done.map(({ batch }) => batch.perSecond)),
        ...medianProcessor(done.map(({ batch }) => batch)),
        unit: 'requests/s',
        what: 'POST /requests, one batch of NDJSON',
        ratio: batches,
        note,
      },
    ]
  } finally {
    hello.kill()
    parse.kill()
    hence.kill()
    await engine.close()
  }
}

/** Measures the processor time of a server while it serves this many requests. */
async function measured<R extends { readonly perSecond: number }>(
  server: ChildProcess,
  count: number,
  act: () => Promise<R>,
): Promise<R & { readonly processorMicros: number }> {
  const before = await processorMicrosOfChild(server)
  const run = await act()
  // The thread that `drive` measures is that of the load.
  const { threadMicros: _, ...rest } = run as R & { readonly threadMicros?: number }
  return { ...(rest as R), processorMicros: ((await processorMicrosOfChild(server)) - before) / count }
}

const hello200: HttpRequest = { head: 'GET / HTTP/1.1\r\nhost: localhost\r\n', body: '' }

function requestOf({ requestId, input }: Payment): HttpRequest {
  return {
    head:
      'POST /requests/pay HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n' +
      `idempotency-key: "${requestId}"\r\n`,
    body: JSON.stringify(input),
  }
}

async function load(port: number, count: number, requestFor: (index: number) => HttpRequest): Promise<Run> {
  const open = await Promise.all(Array.from({ length: connections }, () => KeptConnection.open(port)))
  const free = [...open]
  const run = await drive(
    connections,
    count,
    async (i) => {
      const connection = free.pop()!
      const status = await connection.send(requestFor(i))
      free.push(connection)
      return status
    },
    (status) => {
      if (status !== 200) throw new Error(`The status was ${status}.`)
    },
  )
  for (const connection of open) connection.close()
  return run
}

function submitting(
  engine: Awaited<ReturnType<typeof createEngine<typeof app>>>,
  wishes: readonly Payment[],
) {
  return async (i: number) => {
    const { requestId, input } = wishes[i]!
    const { status } = await engine.submit('pay', input, { requestId })
    if (status !== 'accepted') throw new Error(`A payment was ${status}.`)
  }
}

async function sendBatch(port: number, wishes: readonly Payment[]): Promise<{ readonly perSecond: number }> {
  const lines = wishes.map(({ requestId, input }) => `${JSON.stringify({ requestId, type: 'pay', input })}\n`)
  const start = performance.now()
  const sending = request({
    port,
    host: '127.0.0.1',
    path: '/requests',
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
  })
  const answered = once(sending, 'response')
  const sent = (async () => {
    for (let i = 0; i < lines.length; i += 500) {
      if (!sending.write(lines.slice(i, i + 500).join(''))) await once(sending, 'drain')
    }
    sending.end()
  })()
  const [answer] = await answered
  let accepted = 0
  for await (const line of createInterface({ input: answer })) {
    if (line.includes('"status":"accepted"')) accepted++
  }
  await sent
  if (accepted !== wishes.length) throw new Error(`${accepted} of ${wishes.length} payments were accepted.`)
  return { perSecond: (accepted / (performance.now() - start)) * 1000 }
}

function perSecond({ perSecond: figure }: { readonly perSecond: number }): string {
  return `${Math.round(figure)}/s`
}

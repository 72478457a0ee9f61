import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { type AppBundle, createEngine } from 'hence'
import { doctor, verify } from 'hence/offline'
import type stays from '../apps/stays.ts'
import { randomFrom } from '../random.ts'

// Damages the derived state of a copy of a data directory, a case for each seed, and prints what doctor,
// verify and a start make of it. It is a process of its own, so that a signal is seen.

interface Given {
  readonly app: AppBundle<typeof stays>
  readonly data: string
  readonly work: string
  readonly requests: readonly (readonly [type: 'book', input: { stay: string; room: string }, id: string])[]
  readonly seeds: readonly number[]
}

/** Damages one file; returns what it did. */
function damage(data: string, seed: number): string {
  const random = randomFrom(seed)
  const below = (n: number) => Math.floor(random() * n)
  const files = readdirSync(join(data, 'state'), { recursive: true })
    .map((name) => join('state', String(name)))
    .filter((name) => statSync(join(data, name)).isFile())
  const kind = below(10)
  const store = 'state/0/data.mdb'
  const name = kind < 8 ? store : files[below(files.length)]!
  const path = join(data, name)
  const { size } = statSync(path)
  const change = (what: string, edit: (bytes: Buffer) => void) => {
    const bytes = readFileSync(path)
    edit(bytes)
    writeFileSync(path, bytes)
    return `${name}: ${what}`
  }
  const pages = Math.floor(size / 4_096)
  const page = below(pages)
  if (kind < 4) {
    // Half of them in the first pages, which say where everything is.
    const at = (kind < 2 ? below(2) : page) * 4_096 + below(kind < 2 ? 200 : 4_096)
    const bit = below(8)
    return change(`bit ${bit} of byte ${at}`, (bytes) => bytes.writeUInt8(bytes[at]! ^ (1 << bit), at))
  }
  if (kind === 4)
    return change(`page ${page} zeroed`, (bytes) => bytes.fill(0, page * 4_096, (page + 1) * 4_096))
  if (kind === 5) {
    const from = below(pages)
    return change(`page ${from} in the place of page ${page}`, (bytes) =>
      bytes.copy(bytes, page * 4_096, from * 4_096, (from + 1) * 4_096),
    )
  }
  if (kind === 6 || kind === 7) {
    const places = [0, 1, 100, 4_096, 8_192, page * 4_096, page * 4_096 + 1, page * 4_096 + 2_048, size >> 1]
    const to = places[below(places.length)]!
    truncateSync(path, to)
    return `${name}: cut to ${to} bytes`
  }
  rmSync(path)
  if (kind === 8) return `${name}: removed`
  mkdirSync(path)
  return `${name}: a folder in its place`
}

const given: Given = JSON.parse(readFileSync(process.argv[2]!, 'utf8'))
for (const seed of given.seeds) {
  const { app, work: data, requests } = given
  rmSync(data, { recursive: true, force: true })
  cpSync(given.data, data, { recursive: true })
  const what = damage(data, seed)
  console.log(JSON.stringify({ seed, what }))
  const codes: { doctor?: string[]; verify?: string[]; start: string[] } = { start: [] }
  let state: unknown
  try {
    codes.doctor = (await doctor({ data })).findings.flatMap(({ level, code }) =>
      level === 'fine' ? [] : [code],
    )
    codes.verify = (await verify({ data })).flaws.map(({ code }) => code)
    const start = () => createEngine({ app, data, report: ({ code }) => codes.start.push(code) })
    const engine = await start().catch((error) => {
      // A start does not remove what somebody put there.
      if (error.code !== 'file-misplaced') throw error
      codes.start.push(error.code)
      rmSync(join(data, 'state'), { recursive: true })
      return start()
    })
    const replies: unknown[] = []
    for (const [type, input, requestId] of requests)
      replies.push(await engine.submit(type, input, { requestId }))
    state = { replies, digest: await engine.digest() }
    await engine.close()
  } catch (error) {
    state = String((error as Error).stack)
  }
  console.log(JSON.stringify({ seed, codes, state }))
}

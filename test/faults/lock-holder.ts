/** Opens the engine in the directory named on the command line, prints that it did, and runs until it is killed. */
import { createEngine } from 'hence'

const engine = await createEngine({ app: import.meta.resolve('../apps/idle.ts'), data: process.argv[2]! })
process.stdout.write('open\n')
setInterval(() => {}, 3_600_000).unref()
process.stdin.resume().on('end', () => void engine.close().then(() => process.exit()))

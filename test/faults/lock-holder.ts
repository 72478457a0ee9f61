/** Opens the engine in the directory that is named on the command line, says so, and stays until it is killed. */
import { app, createEngine } from 'hence'

const engine = await createEngine({ app: app('idle', { requests: [], tables: [] }), data: process.argv[2]! })
process.stdout.write('open\n')
setInterval(() => {}, 3_600_000).unref()
process.stdin.resume().on('end', () => void engine.close().then(() => process.exit()))

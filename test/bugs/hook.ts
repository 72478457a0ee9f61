import { writeFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { bugs } from './bugs.ts'

// Puts a seeded bug into a source as it is loaded: the one that HENCE_BUG names. Processes and threads that a
// test starts load it too, since it comes by NODE_OPTIONS.

const bug = bugs.find(({ id }) => id === process.env['HENCE_BUG'])
if (bug === undefined) throw new Error(`there is no seeded bug ${process.env['HENCE_BUG']}`)
const target = pathToFileURL(join(import.meta.dirname, '../../src', bug.file)).href

registerHooks({
  load(url, context, nextLoad) {
    const loaded = nextLoad(url, context)
    if (url.split('?')[0] !== target) return loaded
    const [before, after, ...more] = String(loaded.source).split(bug.old)
    if (after === undefined || more.length > 0) throw new Error(`the seeded bug ${bug.id} does not apply`)
    writeFileSync(process.env['HENCE_BUG_MARK']!, bug.id)
    return { ...loaded, source: before + bug.new + after }
  },
})

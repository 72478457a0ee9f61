import { createEngine } from 'hence'
import { server } from 'hence/server'
import { memoryStorage } from 'hence/testing'
import notes from './server/notes.ts'
import { callers } from './server/serve.ts'

const engine = await createEngine({ app: notes, data: memoryStorage({ partitions: 2 }), audit: true })
const web = server(engine, {
  authenticate: (request) => {
    const name = /^Test (\w+)$/.exec(request.headers.get('authorization') ?? '')?.[1]
    return name === undefined ? undefined : callers[name]
  },
})
console.log((await web.listen({ port: 4988 })).url)

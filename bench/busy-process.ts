/** Keeps one processor busy and touches nothing else, until it is killed: the least that any work beside live work costs it. */
import { setPriority } from 'node:os'
import { tellParent } from './parent.ts'

setPriority(Number(process.argv[2]))
tellParent({ busy: true })
setImmediate(() => {
  for (;;);
})

/** Keeps one processor busy and touches nothing else, until it is killed: the least that any work beside live work costs it. */
import { tellParent } from './parent.ts'

tellParent({ busy: true })
setImmediate(() => {
  for (;;);
})

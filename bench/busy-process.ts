/** Keeps one processor busy until it is killed: the least that any other work costs live requests. */
import { reportToParent } from './parent.ts'

reportToParent({ busy: true })
setImmediate(() => {
  for (;;);
})

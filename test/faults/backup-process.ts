/** A backup whose process is killed once a step of it has done so much. */
import { backup } from 'hence/offline'

const [, , data, to, killIn, killAfter] = process.argv
await backup({
  ...{ data: data!, to: to! },
  progress({ step, done }) {
    if (step === killIn && done >= Number(killAfter)) process.kill(process.pid, 'SIGKILL')
  },
})

/** A backup whose process is killed once it has copied some bytes. */
import { backup } from 'hence/offline'

const [, , data, to, killAfter] = process.argv
await backup({
  ...{ data: data!, to: to! },
  progress({ step, done }) {
    if (step === 'copy' && done >= Number(killAfter)) process.kill(process.pid, 'SIGKILL')
  },
})

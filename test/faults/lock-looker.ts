/** Reads again and again who holds the directory named on the command line, until it is killed. */
import { lockHolderOf } from '../../src/storage/directory-lock.ts'

process.stdout.write('looking\n')
for (;;) await lockHolderOf(process.argv[2]!)

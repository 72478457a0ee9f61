/** Looks who has the directory that is named on the command line, again and again, until it is killed. */
import { lockHolderOf } from '../../src/storage/directory-lock.ts'

process.stdout.write('looking\n')
for (;;) await lockHolderOf(process.argv[2]!)

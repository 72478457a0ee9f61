/** Looks who has the directory that is named on the command line, again and again, until it is killed. */
import { holderOf } from '../../src/storage/directory-lock.ts'

process.stdout.write('looking\n')
for (;;) await holderOf(process.argv[2]!)

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { argvBeside } from './apart.ts'

test('a process that derives beside this one has the same limits of memory and stack', () => {
  const before = [...process.execArgv]
  const limits = [
    '--max-old-space-size=300',
    '--stack-size=2000',
    '--stack_size=2000',
    '--max_semi_space_size=8',
  ]
  process.execArgv.push('--inspect=0', ...limits, '--test')
  try {
    const kept = before.filter((each) => /^--(max|stack)/.test(each))
    assert.deepEqual(argvBeside(), ['--single-threaded', ...kept, ...limits])
  } finally {
    process.execArgv.splice(0, process.execArgv.length, ...before)
  }
})

import { type CatchClause, type Node, type Pattern, parse } from 'acorn'

/** The message of the error that a stack overflow throws. */
export const stackMessage = 'Maximum call stack size exceeded'

/**
 * Makes every `catch` of a script pass on stack overflows. How deep the stack goes depends on the machine and
 * on how often the code has run, so the app must not turn an overflow into an outcome: see `Interruption`.
 */
export function passOnStackErrors(code: string): string {
  const pieces: string[] = []
  let at = 0
  for (const { param, body } of catchesOf(code)) {
    // The statement is inline, since a call might overflow the stack again.
    const rethrow = (name: string) => `if(${name}!=null&&${name}.message==="${stackMessage}")throw ${name};`
    const start = body.start + 1
    if (param?.type === 'Identifier') {
      pieces.push(code.slice(at, start), rethrow(code.slice(param.start, param.end)))
    } else if (param) {
      const name = '$henceCaught'
      const pattern = code.slice(param.start, param.end)
      pieces.push(code.slice(at, param.start), name, code.slice(param.end, start), rethrow(name))
      pieces.push(`let ${pattern}=${name};`)
    } else {
      const name = '$henceCaught'
      pieces.push(code.slice(at, body.start), `(${name})`, code.slice(body.start, start), rethrow(name))
    }
    at = start
  }
  pieces.push(code.slice(at))
  return pieces.join('')
}

/** The catch clauses of a script, in the order of the text. */
function catchesOf(code: string): (CatchClause & { param: Pattern | null })[] {
  const found: CatchClause[] = []
  // Without recursion, since bundles may nest deeply.
  const waiting: unknown[] = [
    parse(code, { ecmaVersion: 'latest', sourceType: 'script', allowReturnOutsideFunction: true }),
  ]
  while (waiting.length > 0) {
    const each = waiting.pop()
    if (typeof each !== 'object' || each === null) continue
    if ((each as Node).type === 'CatchClause') found.push(each as CatchClause)
    for (const value of Object.values(each))
      if (typeof value === 'object' && value !== null) waiting.push(value)
  }
  return found.sort((a, b) => a.body.start - b.body.start) as (CatchClause & { param: Pattern | null })[]
}

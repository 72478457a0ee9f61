import { type CatchClause, type Node, Parser, type TryStatement } from 'acorn'
import { ScriptCache } from './script-cache.ts'

/** The message of the error that a stack overflow throws. */
export const stackMessage = 'Maximum call stack size exceeded'

/**
 * Makes every `catch` of a script pass on stack overflows, and every `finally` that may leave by itself: how
 * deep the stack goes depends on the machine, so the app must not turn an overflow into an outcome.
 */
export function passOnStackErrors(code: string): string {
  const edits = JSON.parse(found.made(code, way, (script) => JSON.stringify(editsOf(script))))
  let at = 0
  let changed = ''
  for (const { from, to, text } of edits as Edit[]) {
    changed += code.slice(at, from) + text
    at = to
  }
  return changed + code.slice(at)
}

/** The changes of a script, in order. */
function editsOf(code: string): Edit[] {
  // The statement is inline, since a call might overflow the stack again.
  const rethrow = (name: string) => `if(${name}!=null&&${name}.message==="${stackMessage}")throw ${name};`
  const edits: Edit[] = []
  const insert = (from: number, rank: number, text: string) => edits.push({ from, to: from, rank, text })
  for (const each of clausesOf(code)) {
    if (each.type === 'TryStatement') {
      const { start, end, block, handler, finalizer } = each
      insert(start, 2, handler ? '{let $henceLost;try{' : '{let $henceLost;')
      insert((handler ?? block).end, 0, `${handler ? '}' : ''}${keepLost}`)
      insert(finalizer!.start + 1, 1, rethrow('$henceLost'))
      insert(end, 0, '}')
      continue
    }
    const { param, body } = each
    const start = body.start + 1
    if (param?.type === 'Identifier') {
      insert(start, 1, rethrow(code.slice(param.start, param.end)))
    } else if (param) {
      edits.push({ from: param.start, to: param.end, rank: 1, text: '$henceCaught' })
      insert(start, 1, `${rethrow('$henceCaught')}let ${code.slice(param.start, param.end)}=$henceCaught;`)
    } else {
      insert(body.start, 1, '($henceCaught)')
      insert(start, 1, rethrow('$henceCaught'))
    }
  }
  return edits.sort((a, b) => a.from - b.from || a.rank - b.rank)
}

const keepLost = 'catch($henceCaught){$henceLost=$henceCaught;throw $henceCaught}'

/** To parse a bundle with its schema library takes a third of the time of a start. */
const found = new ScriptCache()
/** Other code of `editsOf` has another name. */
const way = `${stackMessage}${keepLost}${editsOf}${clausesOf}`

interface Edit {
  readonly from: number
  readonly to: number
  /** At one place what ends comes first, and a statement that begins comes last. */
  readonly rank: number
  readonly text: string
}

/** The catch clauses of a script, and the statements whose `finally` may return, break or continue. */
function clausesOf(code: string): readonly (CatchClause | TryStatement)[] {
  const found: (CatchClause | TryStatement)[] = []
  // A walk over the tree would cost a third more.
  const collecting = (Base: typeof Parser) =>
    class extends (Base as unknown as Parsing) {
      override parseTryStatement(node: Node): TryStatement {
        const statement = super.parseTryStatement(node)
        const { handler, finalizer } = statement
        if (handler) found.push(handler)
        if (finalizer && /\b(return|break|continue)\b/.test(code.slice(finalizer.start, finalizer.end)))
          found.push(statement)
        return statement
      }
    } as unknown as typeof Parser
  const options = { ecmaVersion: 'latest', sourceType: 'script', allowReturnOutsideFunction: true } as const
  Parser.extend(collecting).parse(code, options)
  return found
}

/** The methods of acorn's parser are there for plugins, and its types leave them out. */
type Parsing = new () => { parseTryStatement(node: Node): TryStatement }

import type { Command } from 'commander'
import { command } from '../command.ts'
import { printLines } from './output.ts'

export function completionCommand(root: Command): Command {
  return command('completion', 'print a script for Bash that completes commands and options', [
    'source <(hence completion)                         for ~/.bashrc',
    'autoload -U bashcompinit && bashcompinit && source <(hence completion)     for ~/.zshrc',
  ]).runs(async () => {
    await printLines(`_hence_words() {
  case "$1" in
${casesOf(root, '').join('\n')}
    *) return 1 ;;
  esac
}
_hence() {
  local path="" candidate words i
  for ((i = 1; i < COMP_CWORD; i++)); do
    candidate="\${path:+$path }\${COMP_WORDS[i]}"
    _hence_words "$candidate" > /dev/null && path="$candidate"
  done
  words=$(_hence_words "$path")
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _hence hence`)
    return undefined
  })
}

/** Cases of a shell function: the words that may follow others, '' → commands, 'log cat' → options. */
function casesOf({ commands, options }: Command, path: string): string[] {
  const words = [...commands.map((each) => each.name()), ...options.map(({ long }) => long), '--help']
  const below = commands.flatMap((each) => casesOf(each, `${path} ${each.name()}`.trimStart()))
  return [`    "${path}") echo "${words.join(' ')}" ;;`, ...below]
}

import { Argument, type Command } from 'commander'
import { command } from '../command.ts'
import { printLines } from './output.ts'

const shells = ['bash', 'zsh', 'fish'] as const
type Shell = (typeof shells)[number]

export function completionCommand(root: Command): Command {
  return command('completion', 'print a shell script that completes commands and options', [
    'source <(hence completion bash)                    for ~/.bashrc',
    'source <(hence completion zsh)                     for ~/.zshrc',
    'hence completion fish > ~/.config/fish/completions/hence.fish',
  ])
    .addArgument(new Argument('<shell>', 'the shell').choices(shells))
    .runs(async (shell: Shell) => {
      await printLines({ bash, zsh, fish }[shell](wordsOf(root, '')))
    })
}

/** The words that may follow others on a command line: '' → commands, 'log cat' → options. */
type Words = ReadonlyMap<string, readonly { readonly word: string; readonly description: string }[]>

function wordsOf(command: Command, path: string): Words {
  const subcommands = command.commands.map((each) => ({ word: each.name(), description: each.description() }))
  const options = command.options.map(({ long, description }) => ({ word: long!, description }))
  const choices = command.registeredArguments.flatMap(({ argChoices = [] }) =>
    argChoices.map((word) => ({ word, description: '' })),
  )
  const words = new Map([
    [path, [...subcommands, ...choices, ...options, { word: '--help', description: 'show the usage' }]],
  ])
  for (const each of command.commands) {
    for (const [below, those] of wordsOf(each, `${path} ${each.name()}`.trimStart()))
      words.set(below, [...those])
  }
  return words
}

function bash(words: Words): string {
  return `${caseOf(words)}
_hence() {
  local path="" candidate words i
  for ((i = 1; i < COMP_CWORD; i++)); do
    candidate="\${path:+$path }\${COMP_WORDS[i]}"
    _hence_words "$candidate" > /dev/null && path="$candidate"
  done
  words=$(_hence_words "$path")
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _hence hence`
}

function zsh(words: Words): string {
  return `#compdef hence
${caseOf(words)}
_hence() {
  local path_="" candidate i
  for ((i = 2; i < CURRENT; i++)); do
    candidate="\${path_:+$path_ }\${words[i]}"
    _hence_words "$candidate" > /dev/null && path_="$candidate"
  done
  compadd -- \${=$(_hence_words "$path_")} || _files
}
compdef _hence hence`
}

/** A shell function that prints the words that may follow others, and fails where none may. */
function caseOf(words: Words): string {
  const cases = [...words].map(
    ([path, those]) => `    "${path}") echo "${those.map(({ word }) => word).join(' ')}" ;;`,
  )
  return `_hence_words() {
  case "$1" in
${cases.join('\n')}
    *) return 1 ;;
  esac
}`
}

function fish(words: Words): string {
  const quoted = (text: string) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
  const lines = ['complete -c hence -f']
  for (const [path, those] of words) {
    const subcommands = [...words.keys()].filter((other) => other.startsWith(path === '' ? '' : `${path} `))
    const next = new Set(
      subcommands.map((other) => other.slice(path.length).trim().split(' ')[0]!).filter(Boolean),
    )
    const seen = path
      .split(' ')
      .filter(Boolean)
      .map((word) => `__fish_seen_subcommand_from ${word}`)
    const notYet = next.size > 0 ? [`not __fish_seen_subcommand_from ${[...next].join(' ')}`] : []
    const condition = [...seen, ...notYet].join('; and ') || 'true'
    for (const { word, description } of those) {
      const name = word.startsWith('--') ? `-l ${word.slice(2)}` : `-a ${quoted(word)}`
      lines.push(`complete -c hence -n ${quoted(condition)} ${name} -d ${quoted(description)}`)
    }
  }
  return lines.join('\n')
}

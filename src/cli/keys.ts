import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { createKey, type Key, listKeys, revokeKey } from '../server/keys.ts'
import { command, type DataOptions, group, logTime } from './command.ts'
import { exitCode } from './terminal/exit-code.ts'
import { note, paint, print, printResult } from './terminal/output.ts'

/** The file of a data directory's API keys, which its server reads. */
export const keysFile = (data: string): string => join(data, 'keys.json')

export function keysCommand() {
  return group('keys', 'create, list and revoke API keys; a running server applies the changes', [
    createCommand(),
    listCommand(),
    revokeCommand(),
  ])
}

function createCommand() {
  return command('create', 'create a key; its secret is printed once and not stored', [
    'hence keys create till --data data --principal till-7 --permission submit:place-order read',
    'hence keys create backup --data data --permission read --expires 2027-01-01',
  ])
    .argument('<name>', 'a name for the key: what it is for')
    .data()
    .option('--principal <name>', 'the principal of its requests (default: the name of the key)')
    .requiredOption(
      '--permission <permissions...>',
      'what the key may do: submit, submit:TYPE, read, operate, admin',
    )
    .option('--expires <date>', 'when it expires: ISO 8601', (text) => new Date(logTime(text)))
    .runs(async (name: string, options: CreateOptions) => {
      const { data, principal = name, permission, expires, json } = options
      await mkdir(data, { recursive: true, mode: 0o700 })
      const wanted = { name, principal, permissions: permission, ...(expires && { expires }) }
      const isFirst = !existsSync(keysFile(data))
      const { key, secret } = await createKey(keysFile(data), wanted)
      if (!existsSync(join(data, 'log')))
        note(`There is no log in ${resolve(data)} yet. The first start with this directory creates one.`)
      else if (isFirst)
        note('This is the first key. A server that was started with --open reads it at its next start.')
      if (json) await print(JSON.stringify({ ...key, secret }))
      else {
        note(describe(key))
        note('The secret, which is shown only now:')
        await print(secret)
      }
    })
}

interface CreateOptions extends DataOptions {
  readonly principal?: string
  readonly permission: readonly string[]
  readonly expires?: Date
}

function listCommand() {
  return command('list', 'list the keys without their secrets', ['hence keys list --data data'])
    .data()
    .runs(async ({ data, json }: DataOptions) => {
      const keys = await listKeys(keysFile(data))
      await printResult(json, keys, keys.map(describe))
    })
}

function revokeCommand() {
  return command('revoke', 'revoke a key; a running server refuses it within a second', [
    'hence keys revoke 1f0c9a77e2d4 --data data',
  ])
    .argument('<id>', 'the id that `hence keys list` shows')
    .data()
    .runs(async (id: string, { data, json }: DataOptions) => {
      const was = await revokeKey(keysFile(data), id)
      if (!was) {
        note(`There is no key ${id} in ${keysFile(data)}.`)
        return exitCode.nothingFound
      }
      await printResult(json, { revoked: id }, `Revoked ${id}.`)
    })
}

function describe({ id, name, principal, permissions, created, expires, last4 }: Key): string {
  const until = expires === undefined ? '' : `, until ${expires}`
  return (
    `${paint.strong(id)} ${name}: ${principal} may ${permissions.join(', ')} ` +
    `${paint.faint(`(…${last4}, made ${created}${until})`)}`
  )
}

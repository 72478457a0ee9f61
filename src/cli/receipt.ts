import { checkReceipt, type Proven } from '../audit/receipt.ts'
import { readPublicKey } from '../audit/signing-key.ts'
import { principalOf, requestIdOf } from '../identity.ts'
import { decodeRecord } from '../log/record.ts'
import { embeddedOptions, type ServiceOptions, serverOptions } from './address.ts'
import { command, jsonOption, jsonValue, runs } from './command.ts'
import { readInput } from './input-file.ts'
import { withService } from './service.ts'
import { exitCode } from './terminal/exit-code.ts'
import { note, paint, print } from './terminal/output.ts'

/** `hence receipt`: proof that a request was taken, to keep and to check. */
export function receiptCommand() {
  return command('receipt', 'get proof that a request is in the log, and check one', [
    'hence receipt get 0197f5a0-7c2e-7d3a-8b1e-2f4c6a8e0d11 > receipt.json',
    'hence receipt check receipt.json --key public-key.pem',
  ])
    .addCommand(getCommand())
    .addCommand(checkCommand())
}

function getCommand() {
  const get = command('get', 'print the receipt of a request, as JSON', [
    'hence receipt get 0197f5a0-7c2e-7d3a-8b1e-2f4c6a8e0d11 > receipt.json',
    'hence receipt get o1 --principal ada --data data',
  ])
    .argument('<request-id>', 'the id that the request was sent with')
    .option('--principal <name>', 'who sent it; default: who asks')
  return embeddedOptions(serverOptions(get)).action(
    runs(async (requestId: string, options: ServiceOptions & { principal?: string }, _command: unknown) => {
      const receipt = await withService({ ...options, audit: true }, (opened) =>
        opened.receipt(requestId, options.principal),
      )
      if (receipt === undefined) {
        note(`There is no request ${requestId} of this sender, or its id is past the window.`)
        return exitCode.nothingFound
      }
      await print(JSON.stringify(receipt))
      return exitCode.ok
    }),
  )
}

function checkCommand() {
  return command('check', 'check a receipt with the public key of the log alone, and print what it proves', [
    'hence receipt check receipt.json --key public-key.pem',
    'hence receipt check - --key public-key.pem --json < receipt.json',
  ])
    .argument('<file>', 'the receipt; - reads it from standard input')
    .requiredOption('--key <file>', 'the public key: audit/public-key.pem of the data directory, or a copy')
    .addOption(jsonOption())
    .action(
      runs(
        async (path: string, options: { readonly key: string; readonly json?: true }, _command: unknown) => {
          const key = readPublicKey(await readInput(options.key))
          const receipt = jsonValue(await readInput(path))
          const proven = checkReceipt(key, receipt)
          await print(options.json ? JSON.stringify(fieldsOf(proven)) : describe(proven))
          return exitCode.ok
        },
      ),
    )
}

function fieldsOf({ logId, partition, offset, record, headTime }: Proven) {
  const decoded = decodeRecord(record)
  const place = { logId, token: `${partition}:${offset}`, provenBy: headTime, kind: decoded.kind }
  if (decoded.kind !== 'request') return place
  const { type, identity, input } = decoded
  return {
    ...place,
    type,
    requestId: requestIdOf(identity),
    principal: principalOf(identity),
    input: JSON.parse(input),
  }
}

function describe(proven: Proven): string {
  const { token, provenBy, logId, ...told } = fieldsOf(proven)
  const when = new Date(provenBy).toISOString()
  const what =
    'type' in told
      ? `${paint.strong(told.type)} ${JSON.stringify(told.input)} ${told.requestId}${told.principal === '' ? '' : ` by ${told.principal}`}`
      : told.kind
  return `${paint.good('✔')} ${what}\n  was in log ${logId} at ${token} by ${when}, as its key has signed.`
}

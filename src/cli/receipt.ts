import { checkReceipt, type Proven } from '../audit/receipt.ts'
import { readPublicKey } from '../audit/signing-key.ts'
import { senderOf } from '../identity.ts'
import { decodeRecord } from '../log/record.ts'
import { command, group, jsonValue, type ServiceOptions } from './command.ts'
import { readInput } from './input-file.ts'
import { withService } from './service.ts'
import { paint, print, printResult } from './terminal/output.ts'

export function receiptCommand() {
  const parts = [getCommand(), checkCommand()]
  return group('receipt', 'get and check the proof that a request is in the log', parts)
}

function getCommand() {
  return command('get', 'print the receipt of a request, as JSON', [
    'hence receipt get 0197f5a0-7c2e-7d3a-8b1e-2f4c6a8e0d11 > receipt.json',
    'hence receipt get o1 --principal ada --data data',
  ])
    .argument('<request-id>', 'the id that the request was sent with')
    .option('--principal <name>', 'who sent the request (default: the caller)')
    .engine()
    .runs(async (requestId: string, options: ServiceOptions & { principal?: string }) => {
      const receipt = await withService({ ...options, audit: true }, (opened) =>
        opened.receipt(requestId, options.principal),
      )
      await print(JSON.stringify(receipt))
    })
}

function checkCommand() {
  return command('check', 'check a receipt, with the public key of the log alone, and print the request', [
    'hence receipt check receipt.json --key public-key.pem',
    'hence receipt check - --key public-key.pem --json < receipt.json',
  ])
    .argument('<file>', 'the receipt; - reads it from standard input')
    .requiredOption('--key <file>', 'the public key: audit/public-key.pem of the data directory, or a copy')
    .json()
    .runs(async (path: string, options: { readonly key: string; readonly json?: true }) => {
      const key = readPublicKey(await readInput(options.key))
      const receipt = jsonValue(await readInput(path))
      const proven = checkReceipt(key, receipt)
      await printResult(options.json, fieldsOf(proven), describe(proven))
    })
}

function fieldsOf({ logId, partition, offset, record, headTime }: Proven) {
  const decoded = decodeRecord(record)
  const common = { logId, token: `${partition}:${offset}`, provenBy: headTime, kind: decoded.kind }
  if (decoded.kind !== 'request') return common
  const { type, identity, input } = decoded
  return { ...common, type, ...senderOf(identity), input: JSON.parse(input) }
}

function describe(proven: Proven): string[] {
  const { token, provenBy, logId, ...fields } = fieldsOf(proven)
  const when = new Date(provenBy).toISOString()
  const what =
    'type' in fields
      ? `${paint.strong(fields.type)} ${JSON.stringify(fields.input)} ` +
        `${fields.requestId}${fields.principal === '' ? '' : ` by ${fields.principal}`}`
      : fields.kind
  return [
    `${paint.good('✔')} ${what}`,
    `  was in log ${logId} at ${token} by ${when}: its key has signed that.`,
  ]
}

import { InvalidArgumentError, Option } from 'commander'
import type { Carrier } from '../log/carrier.ts'
import { printReport, type Reporter } from '../report.ts'

/** The option that says where the log is, if not in the data directory. */
export function logOption(): Option {
  return new Option(
    '--log <url>',
    'where the log is, if not in the data directory: postgres://user@host/database or kafka://host:port/topic',
  ).env('HENCE_LOG')
}

/** Opens the carrier at an address. A driver is loaded only for a log that needs it. */
export async function carrierAt(url: string, reporter: Reporter = printReport): Promise<Carrier> {
  const said = new Set<string>()
  // A command may look more than once at how safe the log is.
  const report: Reporter = (each) => {
    if (!said.has(each.message)) reporter(each)
    said.add(each.message)
  }
  const scheme = /^[a-z]+(?=:\/\/)/.exec(url)?.[0]
  if (scheme === 'postgres' || scheme === 'postgresql') {
    const { postgresLog, postgresLogAt } = await import('../postgres/log.ts')
    return postgresLog({ ...postgresLogAt(url), report })
  }
  if (scheme === 'kafka') {
    const { kafkaLog } = await import('../kafka/carrier.ts')
    const { kafkaLogAt } = await import('../kafka/address.ts')
    return kafkaLog({ ...kafkaLogAt(url), report })
  }
  throw new InvalidArgumentError(
    `--log must be the address of a log, postgres://user@host/database or kafka://host:port/topic, not ${url.replace(/\/\/.*@/, '//…@')}.`,
  )
}

export const isAddress = (text: string): boolean => /^[a-z]+:\/\//.test(text)

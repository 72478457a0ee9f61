import type { Engine } from 'hence'
import type { Bank } from './transfers.ts'

/** The sum of all accounts, in cents. */
export interface Books {
  readonly inAccounts: number
  /** Taken from one account and not yet added to another. */
  readonly underWay: number
  /** The sum for a reader who counts only finished transfers, as if no other had begun. */
  readonly byDoneOnly: number
  /** The lowest balance. */
  readonly lowest: number
}

/** All rows of the three tables at one moment. */
export interface BankRows {
  readonly accounts: Awaited<ReturnType<typeof scanAccounts>>
  readonly transfers: Awaited<ReturnType<typeof scanTransfers>>
  readonly receipts: Awaited<ReturnType<typeof scanReceipts>>
}

type Scanned = Pick<Engine<Bank>, 'scan'>
const scanAccounts = (engine: Scanned) => engine.scan('accounts')
const scanTransfers = (engine: Scanned) => engine.scan('transfers')
const scanReceipts = (engine: Scanned) => engine.scan('receipts')

/** Adds up the tables of an engine in this process, where scans that begin together read one moment. */
export async function addUp(engine: Scanned): Promise<Books> {
  const [accounts, transfers, receipts] = await Promise.all([
    scanAccounts(engine),
    scanTransfers(engine),
    scanReceipts(engine),
  ])
  return booksOf({ accounts, transfers, receipts })
}

/** @throws Error if a finished transfer has no receipt, or another one */
export function booksOf({ accounts, transfers, receipts }: BankRows): Books {
  const got = new Map(receipts.map(({ key: [to, transfer], value }) => [transfer, { to, ...value }]))
  const inAccounts = accounts.reduce((sum, { value }) => sum + value.cents, 0)
  const lowest = accounts.reduce((least, { value }) => Math.min(least, value.cents), Number.POSITIVE_INFINITY)
  let underWay = 0
  let byDoneOnly = inAccounts
  for (const { key, value } of transfers) {
    const [from, transfer] = key
    const receipt = got.get(transfer)
    if (value.state === 'done') {
      if (receipt?.to !== value.to || receipt.from !== from || receipt.cents !== value.cents) {
        throw new Error(
          `Transfer ${transfer} from ${from} is done; its receipt is ${JSON.stringify(receipt)}.`,
        )
      }
    } else if (value.state === 'under-way') {
      if (!receipt) underWay += value.cents
      // The reader undoes it: adds it back here, and subtracts it where it has arrived.
      byDoneOnly += value.cents - (receipt?.cents ?? 0)
    }
  }
  return { inAccounts, underWay, byDoneOnly, lowest }
}

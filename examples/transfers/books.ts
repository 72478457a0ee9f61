import type { Engine } from 'hence'
import type { Bank } from './transfers.ts'

/** What all accounts come to, in cents. */
export interface Books {
  readonly inAccounts: number
  /** Taken from one account and not given to another yet. */
  readonly underWay: number
  /** What a reader sees who counts only transfers that are done, as if no other had begun. */
  readonly byDoneOnly: number
  readonly lowest: number
}

/**
 * Adds up all accounts. The tables must be read in one moment, so this is for the engine in this process: there, scans that
 * begin together read together.
 * @throws Error when a transfer is done and its receipt is missing or says something else
 */
export async function addUp(engine: Pick<Engine<Bank>, 'scan'>): Promise<Books> {
  const [accounts, transfers, receipts] = await Promise.all([
    engine.scan('accounts'),
    engine.scan('transfers'),
    engine.scan('receipts'),
  ])
  const got = new Map(receipts.map(({ key: [to, transfer], value }) => [transfer, { to, ...value }]))
  const inAccounts = accounts.reduce((sum, { value }) => sum + value.cents, 0)
  const lowest = Math.min(0, ...accounts.map(({ value }) => value.cents))
  let underWay = 0
  let byDoneOnly = inAccounts
  for (const { key, value } of transfers) {
    const [from, transfer] = key
    const receipt = got.get(transfer)
    if (value.state === 'done') {
      if (receipt?.to !== value.to || receipt.from !== from || receipt.cents !== value.cents)
        throw new Error(
          `Transfer ${transfer} from ${from} is done, and its receipt is ${JSON.stringify(receipt)}.`,
        )
    } else if (value.state === 'under-way') {
      if (!receipt) underWay += value.cents
      // Undone in the mind of the reader: given back here, and taken away where it has arrived.
      byDoneOnly += value.cents - (receipt?.cents ?? 0)
    }
  }
  return { inAccounts, underWay, byDoneOnly, lowest }
}

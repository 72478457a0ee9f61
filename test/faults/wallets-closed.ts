import { wallets } from './wallets.ts'

/** Rejects every move, so that every outcome and row differs. */
export default wallets({ most: 0, fee: 0 })

import { wallets } from './wallets.ts'

/** Nothing moves: every outcome and every row is another one. */
export default wallets({ most: 0, fee: 0 })

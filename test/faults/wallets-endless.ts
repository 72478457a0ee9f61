import { wallets } from './wallets.ts'

export default wallets({ most: 990, fee: 1, isEndless: true })

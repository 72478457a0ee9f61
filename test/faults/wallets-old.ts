import { wallets } from './wallets.ts'

export default wallets({ most: 995, fee: 0 })

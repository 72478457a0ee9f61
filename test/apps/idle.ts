import { app } from 'hence'

export default app('idle', { requests: [], tables: [] })

import { airline } from './airline.ts'

export default airline('loose', { percent: 5 }, 'human')

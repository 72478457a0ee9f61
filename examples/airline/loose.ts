import { airline } from './airline.ts'

export default airline('loose')

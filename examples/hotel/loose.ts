import { hotel } from './hotel.ts'

export default hotel('loose')

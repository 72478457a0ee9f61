import { warehouse } from './warehouse.ts'

export default warehouse('strict')

import type { TableNamed } from './app/app.ts'
import type {
  App,
  Frozen,
  KeyPart,
  Query,
  RequestInput,
  RequestName,
  RequestReason,
  RequestValue,
  Row,
  TableKey,
  TableName,
  TableValue,
} from './app/index.ts'
import type { IndexOf } from './app/table.ts'
import { type Clock, systemClock } from './clock.ts'

export { memoryLog } from '../log/memory-log.ts'
export { type LogConformance, logConformance } from './log-conformance.ts'
export { type MemoryStorage, memoryStorage } from './memory-storage.ts'
export { type Scenario, type SentBy, scenario } from './scenario.ts'
export {
  type Fault,
  type Operation,
  type SimulatedDisk,
  type SimulatedDiskOptions,
  simulatedDisk,
} from './simulated-disk.ts'
export { type StoreConformance, storeConformance } from './store-conformance.ts'

export { type Scenario, type SentBy, scenario } from './scenario.ts'

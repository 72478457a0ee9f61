export { type Advice, HenceError } from './failure.ts'

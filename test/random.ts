export { randomFrom } from '../src/testing/random.ts'

import { type App, createEngine, type Engine, HenceError } from 'hence'
import { appsOf } from '../apps.ts'
import type * as made from './marked.ts'

const { marked } = appsOf<typeof made>(import.meta.resolve('./marked.ts'))
export const versions = await Promise.all([marked('a'), marked('b')])

/** Opens an engine with the version in force, whichever one a killed process left. */
export async function openMarked(data: string): Promise<Engine<App>> {
  for (const app of versions) {
    try {
      return await createEngine({
        app,
        data,
        partitions: 3,
        checkpointRows: 50,
        report: () => {},
      })
    } catch (error) {
      if (!(error instanceof HenceError) || error.code !== 'code-changed') throw error
    }
  }
  throw new Error('None of the versions is in force.')
}

/** Brings the candidate to exactly where the live generation is. The engine is quiesced meanwhile. */
import { assert } from '../assert.ts'
import { HenceError } from '../failure.ts'
import type { Generation } from '../generation/generation.ts'
import { appendControl } from '../log/controls.ts'
import { rulesNow } from '../log/record.ts'
import { replay } from '../processor/replay.ts'
import type { Alignment, Candidate } from './candidate.ts'
import type { ReprocessContext } from './context.ts'
import type { LiveProgress } from './follower.ts'

/** Aligns the candidate with the live generation, prunes both by the same rule, and saves both. */
export async function align(context: ReprocessContext, candidate: Candidate): Promise<void> {
  const { live } = context
  let alignment = await alignTo(context, candidate, () => context.liveProgress())
  if (!alignment.isDrained) {
    // The candidate has messages that belong behind every record of this log time, and such records may still
    // come. A control record that changes nothing ends that time: a replay applies those messages before it,
    // too.
    const { generation, version } = context.liveVersion
    const number = context.history.length
    await appendToAll(context, {
      generation,
      control: { type: 'version', number, version, rules: rulesNow, before: version },
    })
    await passControl(context, live)
    alignment = await alignTo(context, candidate, async () => ({
      positions: live.processor.positions,
      lowWatermark: Number.POSITIVE_INFINITY,
      inFlight: [],
    }))
  }
  const [here, there] = [live.processor.positions.join(), alignment.positions.join()]
  assert(here === there, 'an aligned candidate has the positions of the live generation', there, here)
  await live.checkpoint(Number.POSITIVE_INFINITY)
  await candidate.save(true)
}

/** Again if the candidate needed a ruling, which then stands behind where it was to go. */
async function alignTo(
  { live }: ReprocessContext,
  candidate: Candidate,
  progress: () => Promise<LiveProgress>,
): Promise<Alignment> {
  for (;;) {
    const alignment = await candidate.align(await progress())
    const isBehind = (position: number, partition: number) => position > alignment.positions[partition]!
    if (!live.processor.positions.some(isBehind)) return alignment
  }
}

/** Saves both generations while requests go on, so that little is left to save when they are aligned. */
export async function saveAhead({ live }: ReprocessContext, candidate: Candidate): Promise<void> {
  await live.checkpoint()
  await candidate.save(false)
}

export async function appendToAll(
  { log, live, host }: ReprocessContext,
  record: Parameters<typeof appendControl>[1],
): Promise<void> {
  try {
    await appendControl(log, record, [...live.processor.positions.keys()])
  } catch (error) {
    if (!(error instanceof HenceError) || error.advice !== 'retry') host.halt(error)
    throw error
  }
}

/** Makes a generation apply a control record that was just appended; the engine halts if it cannot. */
export async function passControl({ log, host }: ReprocessContext, generation: Generation): Promise<void> {
  try {
    await replay(log, generation, { pause: () => undefined })
  } catch (error) {
    host.halt(error)
    throw error
  }
}

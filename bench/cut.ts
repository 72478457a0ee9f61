import { createEngine, type Engine } from 'hence'
import { memoryStorage } from 'hence/testing'
import type * as made from '../examples/airline/airline.ts'
import { partitionOf } from '../src/log/partitions.ts'
import { appsOf } from '../test/apps.ts'
import { CutStorage } from '../test/cut-log.ts'
import { processorMicros } from './processor.ts'
import type { Bench, Result } from './result.ts'

const { airline } = appsOf<typeof made>(import.meta.resolve('../examples/airline/airline.ts'))
type Airline = ReturnType<typeof made.airline>

const partitions = 4
/** The partition that is cut off. */
const judge = 0
const seats = 20
/** How many flights are on sale. */
const flights = 24
/** Bookings before and after the cut, which is as long as the bookings in between: one each second. */
const around = 1_000

/**
 * Sells seats of an airline, one each second, as long as a flight is seen to have some, while the line to the
 * judge of a quarter of the flights is cut: those are sold on. Each seat too many costs an apology.
 */
export async function cut({ sized, progress, plot }: Bench): Promise<Result[]> {
  const points: [number, number][] = []
  const lengths = sized([1, 10, 60, 300, 900, 3_600], [1, 60, 900], [1, 30])
  let last: Omit<Sold, 'apologies'> = { before: 0, during: 0, processorMicros: 0 }
  for (const seconds of lengths) {
    const sold = await sell(seconds)
    points.push([seconds, sold.apologies])
    progress(`cut: ${seconds} s: ${sold.apologies.toFixed(1)} apologies per 1,000 bookings`)
    last = sold
  }
  plot('cut', {
    title: 'Apologies against the length of a cut: loose bookings, a quarter of the judges cut off',
    x: { label: 'seconds', log: true },
    y: { label: 'apologies per 1,000 bookings of the cut' },
    series: [{ name: 'apologies', points }],
  })
  return [
    {
      what: 'loose bookings while their judge is cut off',
      figure: last.during,
      unit: 'requests/s',
      processorMicros: last.processorMicros,
      ratio: last.during / last.before,
      note: `${lengths.at(-1)} s of one booking a second; the ratio is to those before the cut`,
    },
  ]
}

interface Sold {
  /** Bookings in a second of this machine, before the cut and during it. */
  readonly before: number
  readonly during: number
  /** Of one booking during the cut. */
  readonly processorMicros: number
  /** For 1,000 bookings of the cut. */
  readonly apologies: number
}

async function sell(seconds: number): Promise<Sold> {
  const line = new CutStorage(memoryStorage({ partitions }))
  const app = await airline('loose', { percent: 0 })
  const engine = await createEngine<Airline>({ app, data: line.storage, report: () => {} })
  const sale = new Sale(engine)
  await sale.book(around)
  const before = await sale.rate(around)
  const known = await sale.denied()
  line.cut(judge)
  const processorBefore = processorMicros()
  const during = await sale.rate(seconds)
  const processor = processorMicros() - processorBefore
  line.mend()
  await engine.idle()
  const apologies = (await sale.denied()) - known
  await engine.close()
  return {
    before,
    during,
    processorMicros: processor / seconds,
    apologies: (1_000 * apologies) / seconds,
  }
}

class Sale {
  readonly #engine: Engine<Airline>
  readonly #onSale: string[] = []
  #flight = 0
  #booking = 0
  #turn = 0

  constructor(engine: Engine<Airline>) {
    this.#engine = engine
  }

  /** Sells so many seats, and returns how many it sold in a second of this machine. */
  async rate(count: number): Promise<number> {
    const start = performance.now()
    await this.book(count)
    return (1_000 * count) / (performance.now() - start)
  }

  async book(count: number): Promise<void> {
    for (let n = 0; n < count; n++) {
      const flight = await this.#nextFlight()
      const booking = this.#nextBooking()
      const input = { booking, flight, fare: 'saver' } as const
      await this.#engine.submit('book', input, { requestId: booking, principal: 'desk' })
    }
  }

  async denied(): Promise<number> {
    const rows = await this.#engine.scan('bookings', {})
    return rows.filter(({ value }) => value.state === 'denied').length
  }

  /** The next flight that is seen to have a seat; one that is full makes room for another. */
  async #nextFlight(): Promise<string> {
    for (;;) {
      const at = this.#turn++ % flights
      const flight = this.#onSale[at]
      if (flight !== undefined) {
        const { claimed } = await this.#engine.violations.usage('seats', flight)
        if (claimed < seats) return flight
      }
      // Each place belongs to one judge, so that as many as before are cut off.
      let name: string
      do name = `HE${++this.#flight}`
      while (partitionOf(name, partitions) !== at % partitions)
      await this.#engine.submit('open-flight', { flight: name, seats }, { requestId: name })
      this.#onSale[at] = name
    }
  }

  /** A booking whose own partition is not cut off. */
  #nextBooking(): string {
    let name: string
    do name = `b${++this.#booking}`
    while (partitionOf(name, partitions) === judge)
    return name
  }
}

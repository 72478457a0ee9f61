import type { Submission } from './submission.ts'

/**
 * Half a year of a made-up shop: orders from four clerks, most of them shipped, some cancelled or returned,
 * and stock losses. It has everyday mistakes too: requests sent twice, a colleague's orders cancelled,
 * numbers used again. A seed and size always have the same requests, so sending the sample again, or the rest
 * of it, sends nothing new.
 */
export function sample({ orders = 20_000, seed = 1 } = {}): Submission[] {
  const chance = randomFrom(seed)
  const below = (n: number) => Math.floor(chance() * n)
  const pick = <T>(items: readonly T[]): T => items[below(items.length)]!
  /** Small numbers are frequent, large ones rare. */
  const seldom = (n: number) => Math.floor(chance() * chance() * chance() * n)

  const products = Array.from({ length: 600 }, (_, i) => ({
    stockCode: `${20_000 + i * 7}${pick(['', '', '', 'A', 'B'])}`,
    description: `${pick(colours)} ${pick(materials)} ${pick(things)}`,
    price: 10 * (25 + seldom(2_000)),
  }))
  const customers = Array.from({ length: 1_500 }, (_, i) => ({
    customer: String(10_000 + i),
    country: pick(countries),
  }))

  const sent: Submission[] = []
  /** Requests to send after this many orders. */
  const later = new Map<number, Submission[]>()
  const sendLater = (order: number, submission: Submission) => {
    const others = later.get(order)
    if (others) others.push(submission)
    else later.set(order, [submission])
  }
  const send = (order: number, submission: Submission) => {
    sent.push(submission)
    if (chance() >= 0.03) return
    // A client without an answer sends the same again, at once or after it has reconnected.
    if (chance() < 0.5) sent.push(submission)
    else sendLater(order + 1 + below(300), submission)
  }

  let at = Date.UTC(2026, 0, 5, 9)
  let number = 700_000
  for (let i = 0; i < orders; i++) {
    for (const submission of later.get(i) ?? []) send(i, submission)
    later.delete(i)

    at += 60_000 * below(9)
    if (new Date(at).getUTCHours() >= 17) at += 16 * 3_600_000
    const time = new Date(at).toISOString().slice(0, 19)
    const line = () => ({ ...products[seldom(products.length)]!, units: pick([1, 1, 2, 3, 4, 6, 12, 24]) })
    const lines = Array.from({ length: 1 + seldom(24) }, line)
    const buyer = chance() < 0.85 ? customers[seldom(customers.length)]! : { country: 'United Kingdom' }
    const principal = pick(clerks)
    const order = { number: String(++number), at: time, ...buyer, lines }
    const by = (requestId: string, who = principal) => ({
      requestId: `${requestId}-${order.number}`,
      principal: who,
    })
    const soon = () => i + 1 + below(400)
    send(i, { type: 'place-order', input: order, ...by('order') })

    const { number: known } = order
    const fate = chance()
    if (fate < 0.75) sendLater(soon(), { type: 'ship-order', input: { number: known }, ...by('ship') })
    else if (fate < 0.79)
      sendLater(soon(), { type: 'cancel-order', input: { number: known }, ...by('cancel') })

    const mishap = below(400)
    if (mishap === 0) send(i, { type: 'place-order', input: { ...order, lines: [line()] }, ...by('again') })
    if (mishap < 3) sendLater(soon(), { type: 'ship-order', input: { number: known }, ...by('ship-again') })
    if (mishap < 6) sendLater(soon(), { type: 'cancel-order', input: { number: known }, ...by('regret') })
    if (mishap === 7) {
      const colleague = clerks[(clerks.indexOf(principal) + 1) % clerks.length]!
      sendLater(soon(), { type: 'cancel-order', input: { number: known }, ...by('mistake', colleague) })
    }
    if (mishap === 8) {
      send(i, { type: 'ship-order', input: { number: `${known}0` }, ...by('typing-error') })
    }

    if (chance() < 0.04) {
      const note = { ...order, number: `C${++number}`, lines: lines.slice(0, 1 + below(2)) }
      sendLater(soon(), { type: 'credit-note', input: note, ...by('credit') })
      if (chance() < 0.02) sendLater(soon(), { type: 'credit-note', input: note, ...by('credit-again') })
    }
    if (chance() < 0.03) {
      const { stockCode } = pick(products)
      const reason = pick(['damaged', 'lost', 'thrown away', '?', ''])
      const writeOff = { number: String(++number), at: time, stockCode, units: -1 - seldom(200), reason }
      send(i, { type: 'write-off-stock', input: writeOff, ...by('write-off') })
      if (chance() < 0.02) send(i, { type: 'write-off-stock', input: writeOff, ...by('write-off-again') })
    }
    if (chance() < 0.0005) {
      const amount = 10 * (below(400_000) - 200_000)
      const input = { number: `A${++number}`, at: time, description: 'Adjust bad debt', amount }
      send(i, { type: 'adjust-debt', input, ...by('adjust') })
    }
  }
  for (const submissions of later.values()) sent.push(...submissions)
  return sent
}

const clerks = ['anna', 'ben', 'carla', 'dev']
const countries = [
  ...Array<string>(30).fill('United Kingdom'),
  ...['Germany', 'Germany', 'France', 'France', 'Ireland', 'Spain', 'Netherlands', 'Japan', 'Portugal'],
]
const colours = ['Red', 'White', 'Ivory', 'Pink', 'Blue', 'Green', 'Silver', 'Striped', 'Spotty', 'Vintage']
const materials = ['Glass', 'Wooden', 'Metal', 'Felt', 'Paper', 'Ceramic', 'Wicker', 'Enamel', 'Linen']
const things = ['Lantern', 'Mug', 'Cake Stand', 'Bird House', 'Coat Hanger', 'Lunch Bag', 'Clock', 'Bunting']

/** Numbers in [0, 1) from mulberry32, whose integer arithmetic is the same on every machine. */
function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let bits = Math.imul(state ^ (state >>> 15), state | 1)
    bits = (bits + Math.imul(bits ^ (bits >>> 7), bits | 61)) ^ bits
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32
  }
}

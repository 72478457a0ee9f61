/**
 * An online shop, whole: what may be asked of it, what it remembers, and the rules in between.
 *
 * A request is decided under its invoice number and nowhere else. Products, customers and days have keys of
 * their own, possibly on other partitions, so their totals are told by events. These arrive exactly once in
 * effect but in any order; that is why everything below adds up the same in whatever order it comes.
 *
 * It is the second version: `v1/shop.ts` is the first one, with the bugs that this one mends.
 */
import { app, effect, type Frozen, type Reaction, reject, scopes, type Tx, type ValueOf } from 'hence'
import { z } from 'zod'

/** What a partition key stands for. Orders, credit notes, write-offs and adjustments share one row of numbers. */
const [invoice, product, customer, day] = scopes('invoice', 'product', 'customer', 'day')

const name = z.string().min(1).max(64)
/** Time on the shop's clock: `2010-12-01T08:26:00`. */
const time = z.iso.datetime({ local: true, precision: 0 })
/** Thousandths of a pound: whole numbers, so that sums are exact. */
const money = z.int()

const line = z.object({
  stockCode: name,
  description: z.string(),
  units: z.int().min(1),
  price: money.min(0),
})
const sale = z.object({
  number: name,
  at: time,
  customer: name.optional(),
  country: name,
  lines: z.array(line).min(1),
})

// What the shop has.

/**
 * Units of a product that orders may claim: an order is accepted at once, and made good if it turns out that there was too
 * little. Cancellations and credit notes give back, write-offs take away, `count-stock` says how much there is.
 *
 * The files that are imported tell no purchases, so a product that nobody has counted has more than they ever sell.
 */
export const stock = product.capacity('stock', { mode: 'loose', limit: 1_000_000 })

/** An order that was accepted cannot be delivered. */
export const apology = effect('apology', {
  input: z.object({ to: z.string(), number: name, stockCode: name, amount: money }),
})
/** A customer was told a wrong total. */
export const revisedStatement = effect('revised-statement', {
  input: z.object({ to: z.email(), customer: name, before: money, after: money }),
})

// What the shop remembers.

export const orders = invoice.table('orders', {
  value: sale.omit({ number: true, lines: true }).extend({
    owner: z.string(),
    state: z.enum(['open', 'shipped', 'cancelled', 'sold-out']),
    day: z.iso.date(),
    units: z.int(),
    amount: money,
  }),
  indexes: { byCustomer: ['customer', 'at'], byDay: ['day'] },
})
/** An order has many lines, numbered from 1; two of them may well be for the same product. */
export const orderLines = invoice.table('orderLines', { key: ['number'], value: line })
export const creditNotes = invoice.table('creditNotes', {
  value: sale.omit({ number: true }).extend({ amount: money }),
  indexes: { byCustomer: ['customer', 'at'] },
})
export const writeOffs = invoice.table('writeOffs', {
  value: z.object({ at: time, stockCode: name, units: z.int(), reason: z.string() }),
  indexes: { byProduct: ['stockCode', 'at'] },
})
export const adjustments = invoice.table('adjustments', {
  value: z.object({ at: time, description: z.string(), amount: money }),
})
export const products = product.table('products', {
  value: z.object({ units: z.int(), revenue: money, writeOffUnits: z.int() }),
  indexes: { byRevenue: ['revenue'] },
})
export const customers = customer.table('customers', {
  value: z.object({
    country: name,
    /** Time and number of the latest invoice, which is the one that tells the country. */
    latest: z.string(),
    orders: z.int(),
    creditNotes: z.int(),
    spent: money,
  }),
  indexes: { byCountry: ['country', 'spent'], bySpent: ['spent'] },
})
export const days = day.table('days', {
  value: z.object({ orders: z.int(), creditNotes: z.int(), revenue: money }),
})

// What one key tells another.

const sold = product.event('sold', {
  data: z.object({ stockCode: name, units: z.int(), revenue: money }),
  key: (event) => event.stockCode,
})
const stockMoved = product.event('stock-moved', {
  data: z.object({ stockCode: name, units: z.int() }),
  key: (event) => event.stockCode,
})
const writtenOff = product.event('written-off', {
  data: z.object({ stockCode: name, units: z.int() }),
  key: (event) => event.stockCode,
})
const billed = customer.event('billed', {
  data: z.object({
    customer: name,
    country: name,
    invoice: z.string(),
    orders: z.int(),
    creditNotes: z.int(),
    amount: money,
  }),
  key: (event) => event.customer,
})
const booked = day.event('booked', {
  data: z.object({ day: z.iso.date(), orders: z.int(), creditNotes: z.int(), revenue: money }),
  key: (event) => event.day,
})

// What may be asked of the shop.

/** The requests that move money. */
function sales(books: Books) {
  const placeOrder = invoice.request('place-order', {
    input: sale,
    key: (order) => order.number,
    claims: (order) => unitsByProduct(order.lines).map(([stockCode, units]) => stock.claim(stockCode, units)),
    derive(tx, order) {
      if (tx.get(orders)) return reject('order-exists')
      const { number, lines, ...head } = order
      const [units, amount] = [unitsOf(lines), books.amountOf(lines)]
      tx.put(orders, { ...head, owner: tx.principal, state: 'open', day: dayOf(order.at), units, amount })
      for (const [i, line] of lines.entries()) tx.put(orderLines, i + 1, line)
      book(tx, books, order, { sign: 1, orders: 1, creditNotes: 0 })
      return { units, amount }
    },
    compensate(tx, { number, lines }, { key: stockCode }) {
      const order = tx.get(orders)!
      tx.put(orders, { ...order, state: 'sold-out' })
      book(tx, books, { ...order, number, lines }, { sign: -1, orders: -1, creditNotes: 0 })
      tx.effect(apology, { to: order.owner, number, stockCode, amount: order.amount })
    },
  })

  const cancelOrder = invoice.request('cancel-order', {
    input: z.object({ number: name }),
    key: (order) => order.number,
    derive(tx, { number }) {
      const order = openOrder(tx)
      if ('reason' in order) return order
      tx.put(orders, { ...order, state: 'cancelled' })
      tx.release(stock)
      const lines = tx.scan(orderLines).map((row) => row.value)
      book(tx, books, { ...order, number, lines }, { sign: -1, orders: -1, creditNotes: 0 })
      return { amount: order.amount }
    },
  })

  /** Money back for goods returned, at the prices they were bought for. It names no order. */
  const creditNote = invoice.request('credit-note', {
    input: sale,
    key: (note) => note.number,
    derive(tx, note) {
      if (tx.get(creditNotes)) return reject('credit-note-exists')
      const { number, ...rest } = note
      const amount = books.amountOf(note.lines)
      tx.put(creditNotes, { ...rest, amount })
      book(tx, books, note, { sign: -1, orders: 0, creditNotes: 1 })
      for (const [stockCode, units] of unitsByProduct(note.lines)) tx.emit(stockMoved, { stockCode, units })
      return { amount }
    },
  })

  return [placeOrder, cancelOrder, creditNote] as const
}

export const shipOrder = invoice.request('ship-order', {
  input: z.object({ number: name }),
  key: (order) => order.number,
  derive(tx) {
    const order = openOrder(tx)
    if ('reason' in order) return order
    tx.put(orders, { ...order, state: 'shipped' })
    // The claim goes, and its units with it; both arrive at the product one right after the other.
    tx.release(stock)
    const lines = tx.scan(orderLines).map((row) => row.value)
    for (const [stockCode, units] of unitsByProduct(lines)) tx.emit(stockMoved, { stockCode, units: -units })
    return undefined
  },
})

/** Takes units that were lost or damaged from the stock: `units` is negative. */
export const writeOffStock = invoice.request('write-off-stock', {
  input: z.object({ number: name, at: time, stockCode: name, units: z.int().max(-1), reason: z.string() }),
  key: (writeOff) => writeOff.number,
  derive(tx, { number, ...writeOff }) {
    if (tx.get(writeOffs)) return reject('write-off-exists')
    tx.put(writeOffs, writeOff)
    tx.emit(writtenOff, { stockCode: writeOff.stockCode, units: writeOff.units })
    return undefined
  },
})

/** Somebody has counted what is in the house. What open orders claim beyond that is made good. */
export const countStock = product.request('count-stock', {
  input: z.object({ stockCode: name, units: z.int().min(0) }),
  key: (count) => count.stockCode,
  derive(tx, { units }) {
    tx.setLimit(stock, units)
    return tx.usage(stock)
  },
})

/** Corrects what is owed to the shop, up or down, for no product and no customer. */
export const adjustDebt = invoice.request('adjust-debt', {
  input: z.object({ number: name, at: time, description: z.string(), amount: money }),
  key: (adjustment) => adjustment.number,
  derive(tx, { number, ...adjustment }) {
    if (tx.get(adjustments)) return reject('adjustment-exists')
    tx.put(adjustments, adjustment)
    tx.emit(booked, { day: dayOf(adjustment.at), orders: 0, creditNotes: 0, revenue: adjustment.amount })
    return undefined
  },
})

// What happens where an event arrives.

const newProduct = { units: 0, revenue: 0, writeOffUnits: 0 }

const onSold = product.on(sold, (tx, { units, revenue }) => {
  const before = tx.get(products) ?? newProduct
  tx.put(products, { ...before, units: before.units + units, revenue: before.revenue + revenue })
})

const onWrittenOff = product.on(writtenOff, (tx, { units }) => {
  const before = tx.get(products) ?? newProduct
  tx.put(products, { ...before, writeOffUnits: before.writeOffUnits + units })
  tx.adjustLimit(stock, units)
})

const onStockMoved = product.on(stockMoved, (tx, { units }) => tx.adjustLimit(stock, units))

const onBilled = customer.on(billed, (tx, bill) => {
  const before = tx.get(customers) ?? { country: '', latest: '', orders: 0, creditNotes: 0, spent: 0 }
  const { country, latest } =
    bill.invoice > before.latest ? { country: bill.country, latest: bill.invoice } : before
  tx.put(customers, {
    country,
    latest,
    orders: before.orders + bill.orders,
    creditNotes: before.creditNotes + bill.creditNotes,
    spent: before.spent + bill.amount,
  })
})

const onBooked = day.on(booked, (tx, booking) => {
  const before = tx.get(days) ?? { orders: 0, creditNotes: 0, revenue: 0 }
  tx.put(days, {
    orders: before.orders + booking.orders,
    creditNotes: before.creditNotes + booking.creditNotes,
    revenue: before.revenue + booking.revenue,
  })
})

// What happens when what it remembers was wrong.

/** A customer who was told another total than the right one gets the right one, and the shop's apologies. */
const apologise = customer.correct((tx, correction) => {
  if (correction.kind !== 'row' || correction.table !== customers.name) return
  const { before, after } = correction as { before?: Customer; after?: Customer }
  const [wrong, right] = [before?.spent ?? 0, after?.spent ?? 0]
  if (wrong === right) return
  // The files that are imported tell no addresses.
  const to = `customer-${tx.key}@example.com`
  tx.effect(revisedStatement, { to, customer: tx.key, before: wrong, after: right })
})

/** What versions of the shop do differently. */
export interface Books {
  amountOf(lines: readonly Line[]): number
  /** Whether a day's books tell of a sale, or of a credit note. */
  countsForDay(sale: Sale, booking: Booking): boolean
}

/** The shop in a version of its own, with what makes good the mistakes of the version before. */
export function retail(books: Books, ...corrections: Reaction[]) {
  return app('retail', {
    requests: [...sales(books), shipOrder, writeOffStock, countStock, adjustDebt],
    tables: [orders, orderLines, creditNotes, writeOffs, adjustments, products, customers, days],
    reactions: [onSold, onStockMoved, onWrittenOff, onBilled, onBooked, ...corrections],
    constraints: [stock],
    effects: [apology, revisedStatement],
  })
}

const shop = retail({ amountOf, countsForDay: () => true }, apologise)
export default shop
export type Shop = typeof shop

// What several derivations share.

/** The order, when its sender may still do something about it. */
function openOrder(tx: InvoiceTx) {
  const order = tx.get(orders)
  if (!order) return reject('unknown-order')
  if (order.owner !== tx.principal) return reject('not-your-order')
  if (order.state === 'cancelled') return reject('already-cancelled')
  if (order.state === 'shipped') return reject('already-shipped')
  if (order.state === 'sold-out') return reject('sold-out')
  return order
}

/** Tells the products, the customer and the day of a sale, or with `sign` -1 that it was taken back. */
function book(tx: InvoiceTx, books: Books, sale: Sale, booking: Booking): void {
  const { sign, ...counts } = booking
  for (const [stockCode, lines] of Map.groupBy(sale.lines, (line) => line.stockCode)) {
    tx.emit(sold, { stockCode, units: sign * unitsOf(lines), revenue: sign * books.amountOf(lines) })
  }
  const amount = sign * books.amountOf(sale.lines)
  if (sale.customer) {
    const { customer, country } = sale
    tx.emit(billed, { customer, country, invoice: `${sale.at} ${sale.number}`, ...counts, amount })
  }
  if (books.countsForDay(sale, booking)) tx.emit(booked, { day: dayOf(sale.at), ...counts, revenue: amount })
}

function unitsByProduct(lines: readonly Line[]): [stockCode: string, units: number][] {
  return [...Map.groupBy(lines, (line) => line.stockCode)].map(([code, lines]) => [code, unitsOf(lines)])
}

function unitsOf(lines: readonly Line[]): number {
  return lines.reduce((units, line) => units + line.units, 0)
}

/** The amount of an invoice, or of a part of it, in thousandths of a pound. */
export function amountOf(lines: readonly Line[]): number {
  return lines.reduce((amount, line) => amount + line.units * line.price, 0)
}

function dayOf(time: string): string {
  return time.slice(0, 10)
}

export type Line = Frozen<z.infer<typeof line>>
export type Sale = Frozen<z.infer<typeof sale>>
export type Booking = { readonly sign: 1 | -1; readonly orders: number; readonly creditNotes: number }
type Customer = ValueOf<typeof customers>
type InvoiceTx = Tx<typeof invoice.name>

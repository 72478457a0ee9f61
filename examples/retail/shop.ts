/**
 * A complete online shop: its requests, its tables, and the rules in between.
 *
 * A request is decided under its invoice number and nowhere else. Products, customers and days have keys of
 * their own, perhaps on other partitions, so events carry the amounts to their totals. Events arrive exactly
 * once in effect but in any order, so every sum below is the same in any order.
 *
 * This is the second version. `v1/shop.ts` is the first one, with the bugs that this one fixes.
 */
import { app, effect, type Frozen, type Reaction, reject, scopes, type Tx, type ValueOf } from 'hence'
import { z } from 'zod'

/** Orders, credit notes, write-offs and adjustments share one sequence of numbers. */
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

// Constraints and effects.

/**
 * Units of a product, which orders claim. An order is accepted at once, and compensated if the stock was too
 * small. Cancellations and credit notes release claims, write-offs lower the limit, `count-stock` sets it.
 *
 * The imported files have no purchases, so the default limit of a product is more than they ever sell.
 */
export const stock = product.capacity('stock', { mode: 'loose', limit: 1_000_000 })

/** An order that was accepted cannot be delivered. */
export const apology = effect('apology', {
  input: z.object({ to: z.string(), number: name, stockCode: name, amount: money }),
})
/** A customer had been sent a wrong total. */
export const revisedStatement = effect('revised-statement', {
  input: z.object({ to: z.email(), customer: name, before: money, after: money }),
})

// Tables.

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
/** The lines of an order, numbered from 1. Two of them may be for the same product. */
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
    /** Time and number of the latest invoice, which decides the country. */
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

// Events.

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

// Requests.

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

  /** A refund for returned goods, at the prices they were bought for. It names no order. */
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
    // The claim is released, and its units leave. Both reach the product one right after the other.
    tx.release(stock)
    const lines = tx.scan(orderLines).map((row) => row.value)
    for (const [stockCode, units] of unitsByProduct(lines)) tx.emit(stockMoved, { stockCode, units: -units })
    return undefined
  },
})

/** Removes lost or damaged units from the stock; `units` is negative. */
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

/** Sets the stock to a counted number. Open orders that claim more are compensated. */
export const countStock = product.request('count-stock', {
  input: z.object({ stockCode: name, units: z.int().min(0) }),
  key: (count) => count.stockCode,
  derive(tx, { units }) {
    tx.setLimit(stock, units)
    return tx.usage(stock)
  },
})

/** Adjusts the debts to the shop, up or down, without a product or a customer. */
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

// Reactions.

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

// Corrections.

/** A customer whose total was wrong gets a letter with the right one, and an apology. */
const apologise = customer.correct((tx, correction) => {
  if (correction.kind !== 'row' || correction.table !== customers.name) return
  const { before, after } = correction as { before?: Customer; after?: Customer }
  const [wrong, right] = [before?.spent ?? 0, after?.spent ?? 0]
  if (wrong === right) return
  // The imported files have no addresses.
  const to = `customer-${tx.key}@example.com`
  tx.effect(revisedStatement, { to, customer: tx.key, before: wrong, after: right })
})

/** The parts in which versions of the shop differ. */
export interface Books {
  amountOf(lines: readonly Line[]): number
  /** Whether a day's books include a sale or credit note. */
  countsForDay(sale: Sale, booking: Booking): boolean
}

/** A version of the shop, with the corrections of the version before. */
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

// Shared by several derivations.

/** The order, if its sender may still change it. */
function openOrder(tx: InvoiceTx) {
  const order = tx.get(orders)
  if (!order) return reject('unknown-order')
  if (order.owner !== tx.principal) return reject('not-your-order')
  if (order.state === 'cancelled') return reject('already-cancelled')
  if (order.state === 'shipped') return reject('already-shipped')
  if (order.state === 'sold-out') return reject('sold-out')
  return order
}

/** Emits a sale to its products, its customer and its day; with `sign` -1, its reversal. */
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

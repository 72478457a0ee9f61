/**
 * A warehouse. Orders claim units of its stock, and a forklift may damage claimed units.
 *
 * The limit of `stock` is the number of units that came in and were not damaged. Orders claim them, and
 * shipping confirms the claim. An order for which there is nothing waits: more is ordered from the supplier,
 * the customer gets an apology for the delay with a voucher, which can be used once, and who waits is served
 * in order when goods arrive.
 */
import { app, effect, type Mode, reject, scopes } from 'hence'
import { z } from 'zod'

const name = z.string().min(1).max(64)
const units = z.int().min(1).max(1_000_000)
export const discountPercent = 10
const nothing = { received: 0, shipped: 0, writtenOff: 0 }

/**
 * @param mode `loose`: every order is accepted at once; `strict`: one beyond the stock is rejected, unless it
 *   asks to wait
 * @param waits whether orders can wait; otherwise they are compensated
 */
export function warehouse(mode: Mode, waits = true) {
  const [product, order, voucher] = scopes('product', 'order', 'voucher')

  // The newest order gives way first.
  const waitingList = waits ? { waitingList: { victims: true } } : {}
  const stock = product.capacity('stock', { mode, victims: 'newest', ...waitingList })
  /** Strict in both modes: a discount given twice cannot be taken back. A made-up voucher has limit 0. */
  const discount = voucher.capacity('voucher', { mode: 'strict', limit: 0 })

  const products = product.table('products', {
    value: z.object({ received: z.int(), shipped: z.int(), writtenOff: z.int() }),
    read: 'everybody',
  })
  const orders = order.table('orders', {
    value: z.object({
      owner: z.string(),
      sku: name,
      units,
      discountPercent: z.int(),
      state: z.enum(['placed', 'waiting', 'shipped', 'cancelled', 'sorry']),
      /** The voucher of the apology. */
      voucher: z.string().optional(),
    }),
    indexes: { byOwner: ['owner'] },
    read: { index: 'byOwner', equals: (who) => who.id },
  })
  const letter = { to: z.string(), order: name, sku: name, voucher: z.string(), percent: z.int() }
  const apology = effect('apology', { input: z.object(letter) })
  const delay = effect('delay', { input: z.object(letter) })
  const supply = effect('supply', { input: z.object({ sku: name, units }) })
  const voucherMade = voucher.event('voucher-made', {
    data: z.object({ voucher: z.string() }),
    key: (data) => data.voucher,
  })
  const about = { data: z.object({ sku: name, units }), key: (data: { sku: string }) => data.sku }
  const missing = product.event('missing', about)
  const left = product.event('left', about)
  /** Units left whose claim had given way while they were shipped. */
  const leftUnclaimed = product.event('left-unclaimed', about)

  const receive = product.request('receive-goods', {
    input: z.object({ sku: name, units }),
    key: (input) => input.sku,
    derive(tx, { units }) {
      const row = tx.get(products) ?? nothing
      tx.put(products, { ...row, received: row.received + units })
      tx.adjustLimit(stock, units)
      return tx.usage(stock)
    },
  })

  /** The forklift. Orders that claimed these units are compensated, in either mode. */
  const writeOff = product.request('write-off', {
    input: z.object({ sku: name, units, reason: z.string() }),
    key: (input) => input.sku,
    derive(tx, { units }) {
      const row = tx.get(products)
      if (!row || units > row.received - row.shipped - row.writtenOff) return reject('not-there')
      tx.put(products, { ...row, writtenOff: row.writtenOff + units })
      tx.adjustLimit(stock, -units)
    },
  })

  const place = order.request('place-order', {
    input: z.object({
      order: name,
      sku: name,
      units,
      voucher: z.uuid().optional(),
      wait: z.boolean().default(waits && mode === 'loose'),
    }),
    key: (input) => input.order,
    claims: ({ sku, units, voucher, wait }) => [
      stock.claim(sku, units, { wait }),
      ...(voucher === undefined ? [] : [discount.claim(voucher)]),
    ],
    derive(tx, { sku, units, voucher }) {
      if (tx.get(orders)) return reject('order-exists')
      const percent = voucher === undefined ? 0 : discountPercent
      tx.put(orders, { owner: tx.principal, sku, units, discountPercent: percent, state: 'placed' })
      return { discountPercent: percent }
    },
    queued(tx, { order, sku, units }) {
      const row = tx.get(orders)!
      if (row.state === 'shipped') {
        tx.release(stock)
        tx.emit(leftUnclaimed, { sku, units })
        return
      }
      tx.emit(missing, { sku, units })
      const voucher = row.voucher ?? tx.uuid()
      tx.put(orders, { ...row, state: 'waiting', voucher })
      // An order that has waited before has its voucher.
      if (row.voucher !== undefined) return
      tx.emit(voucherMade, { voucher })
      tx.effect(delay, { to: row.owner, order, sku, voucher, percent: discountPercent })
    },
    served: (tx) => tx.put(orders, { ...tx.get(orders)!, state: 'placed' }),
    compensate(tx, { order, sku, units }) {
      const row = tx.get(orders)!
      if (row.state === 'shipped') {
        tx.emit(leftUnclaimed, { sku, units })
        return
      }
      const made = tx.uuid()
      tx.put(orders, { ...row, state: 'sorry', voucher: made })
      tx.emit(voucherMade, { voucher: made })
      tx.effect(apology, { to: row.owner, order, sku, voucher: made, percent: discountPercent })
    },
  })

  const cancel = order.request('cancel-order', {
    input: z.object({ order: name }),
    key: (input) => input.order,
    derive(tx) {
      const row = tx.get(orders)
      const isOpen = row?.state === 'placed' || row?.state === 'waiting'
      if (!isOpen || row.owner !== tx.principal) return reject('no-open-order')
      tx.put(orders, { ...row, state: 'cancelled' })
      tx.release(stock)
      tx.release(discount)
    },
  })

  const ship = order.request('ship-order', {
    input: z.object({ order: name }),
    key: (input) => input.order,
    derive(tx) {
      const row = tx.get(orders)
      if (row?.state !== 'placed') return reject('no-open-order')
      tx.put(orders, { ...row, state: 'shipped' })
      tx.confirm(stock)
      tx.emit(left, { sku: row.sku, units: row.units })
    },
  })

  return app('warehouse', {
    requests: [receive, writeOff, place, cancel, ship],
    tables: [products, orders],
    constraints: [stock, discount],
    reactions: [
      voucher.on(voucherMade, (tx) => tx.setLimit(discount, 1)),
      product.on(missing, (tx, missed) => tx.effect(supply, missed)),
      product.on(leftUnclaimed, (tx, { units }) => tx.adjustLimit(stock, -units)),
      product.on(left, (tx, { units }) => {
        const row = tx.get(products) ?? nothing
        tx.put(products, { ...row, shipped: row.shipped + units })
      }),
    ],
    effects: [apology, delay, supply],
  })
}

const loose = warehouse('loose')
export default loose
export type Warehouse = typeof loose

/**
 * A warehouse. Orders claim units of its stock, and a forklift may damage claimed units.
 *
 * The limit of `stock` is the number of units in the warehouse; orders claim units until they are shipped. An
 * order that gives way gets an apology with a voucher, which can be used once.
 */
import { app, effect, type Mode, reject, scopes } from 'hence'
import { z } from 'zod'

const name = z.string().min(1).max(64)
const units = z.int().min(1).max(1_000_000)
export const discountPercent = 10
const nothing = { received: 0, shipped: 0, writtenOff: 0 }

/** @param mode `loose`: every order is accepted at once; one beyond the stock is compensated afterwards */
export function warehouse(mode: Mode) {
  const [product, order, voucher] = scopes('product', 'order', 'voucher')

  // The newest order gives way first.
  const stock = product.capacity('stock', { mode, victims: 'newest' })
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
      state: z.enum(['placed', 'shipped', 'cancelled', 'sorry']),
      /** The voucher of the apology. */
      voucher: z.string().optional(),
    }),
    indexes: { byOwner: ['owner'] },
    read: { index: 'byOwner', equals: (who) => who.id },
  })
  const apology = effect('apology', {
    input: z.object({ to: z.string(), order: name, sku: name, voucher: z.string(), percent: z.int() }),
  })
  const voucherMade = voucher.event('voucher-made', {
    data: z.object({ voucher: z.string() }),
    key: (data) => data.voucher,
  })
  const left = product.event('left', {
    data: z.object({ sku: name, units }),
    key: (data) => data.sku,
  })

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
    input: z.object({ order: name, sku: name, units, voucher: z.uuid().optional() }),
    key: (input) => input.order,
    claims: ({ sku, units, voucher }) => [
      stock.claim(sku, units),
      ...(voucher === undefined ? [] : [discount.claim(voucher)]),
    ],
    derive(tx, { sku, units, voucher }) {
      if (tx.get(orders)) return reject('order-exists')
      const percent = voucher === undefined ? 0 : discountPercent
      tx.put(orders, { owner: tx.principal, sku, units, discountPercent: percent, state: 'placed' })
      return { discountPercent: percent }
    },
    compensate(tx, { order, sku }) {
      const row = tx.get(orders)!
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
      if (row?.state !== 'placed' || row.owner !== tx.principal) return reject('no-open-order')
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
      // The claim is released, and its units leave. Both reach the product one right after the other. If the
      // claim was lost meanwhile, the units are gone anyway, and another order gives way.
      tx.release(stock)
      tx.emit(left, { sku: row.sku, units: row.units })
    },
  })

  return app('warehouse', {
    requests: [receive, writeOff, place, cancel, ship],
    tables: [products, orders],
    constraints: [stock, discount],
    reactions: [
      voucher.on(voucherMade, (tx) => tx.setLimit(discount, 1)),
      product.on(left, (tx, { units }) => {
        const row = tx.get(products) ?? nothing
        tx.put(products, { ...row, shipped: row.shipped + units })
        tx.adjustLimit(stock, -units)
      }),
    ],
    effects: [apology],
  })
}

const loose = warehouse('loose')
export default loose
export type Warehouse = typeof loose

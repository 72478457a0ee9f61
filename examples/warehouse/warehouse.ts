/**
 * A warehouse: orders claim units of its stock, and a forklift may run over what they claim.
 *
 * The limit of `stock` is what is in the house, and orders claim of it until they are shipped. Whoever must give way gets an apology with a voucher, and a voucher can be used once.
 */
import { app, effect, type Mode, reject, scopes } from 'hence'
import { z } from 'zod'

const name = z.string().min(1).max(64)
const units = z.int().min(1).max(1_000_000)
export const discountPercent = 10
const nothing = { received: 0, shipped: 0, writtenOff: 0 }

/** @param mode `loose`: an order is accepted at once, also when there is too little, and made good afterwards */
export function warehouse(mode: Mode) {
  const [product, order, voucher] = scopes('product', 'order', 'voucher')

  // What was ordered last gives way first.
  const stock = product.capacity('stock', { mode, victims: 'newest' })
  /** Strict in both modes: a discount that was given twice cannot be made good. A voucher that nobody made has limit 0. */
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
      /** What makes good for it. */
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

  /** The forklift. Orders that had these units are made good, in either mode. */
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
      // The claim goes, and its units with it. Both arrive at the product one right after the other; if the claim was
      // taken away meanwhile, the units are gone all the same, and somebody else must give way.
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

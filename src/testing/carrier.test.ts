import { carrierConformance } from './carrier-conformance.ts'
import { CarrierStore, memoryCarrier } from './memory-carrier.ts'

const stores = new Map<string, CarrierStore>()

for (const isConditional of [false, true]) {
  carrierConformance(`the carrier in memory${isConditional ? ', which appends where it is expected' : ''}`, {
    async newPlace() {
      const place = String(stores.size)
      stores.set(place, new CarrierStore())
      return place
    },
    open: async (place) => memoryCarrier(stores.get(place), { isConditional }),
  })
}

import { carrierConformance } from './carrier-conformance.ts'
import { CarrierStore, memoryCarrier } from './memory-carrier.ts'

const stores = new Map<string, CarrierStore>()

carrierConformance('the carrier in memory', {
  async newPlace() {
    const place = String(stores.size)
    stores.set(place, new CarrierStore())
    return place
  },
  open: async (place) => memoryCarrier(stores.get(place)),
})

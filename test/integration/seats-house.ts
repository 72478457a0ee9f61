import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createEngine, type Engine } from 'hence'
import { memoryStorage } from 'hence/testing'
import seats, { type Seats } from '../../examples/seats/seats.ts'
import { openSite, type Site } from '../../examples/seats/site.ts'
import { decodeRecord } from '../../src/log/record.ts'

/** The seats site in this process, with what can go wrong on the way to it. */
export class SeatsHouse {
  readonly #data = memoryStorage()
  #site!: Site
  #web!: Server
  engine!: Engine<Seats>
  /** Answers to these requests are cut off once they are decided. */
  cuts: string | undefined
  /** Requests that have arrived, of whatever kind. */
  arrived = 0
  #cut: PromiseWithResolvers<void> | undefined

  static async open(): Promise<SeatsHouse> {
    const house = new SeatsHouse()
    house.engine = await createEngine({ app: seats, data: house.#data })
    house.#site = await openSite(house.engine)
    house.#web = createServer((request, response) => house.#take(request, response)).listen(0, '127.0.0.1')
    await once(house.#web, 'listening')
    return house
  }

  get url(): string {
    return `http://localhost:${(this.#web.address() as AddressInfo).port}/`
  }

  /** Resolves when the next answer has been cut off. */
  cut(): Promise<void> {
    this.#cut = Promise.withResolvers()
    return this.#cut.promise
  }

  /** The types of all requests in the log, in their order. */
  async log(): Promise<string[]> {
    const types: string[] = []
    for await (const { records } of this.#data.log.read(0, 0)) {
      for (const bytes of records) {
        const record = decodeRecord(bytes)
        if (record.kind === 'request') types.push(record.type)
      }
    }
    return types
  }

  async close(): Promise<void> {
    this.#web.close()
    this.#web.closeAllConnections()
    await this.#site.close()
    await this.engine.close()
  }

  #take(request: IncomingMessage, response: ServerResponse): void {
    this.arrived++
    if (request.url === `/hence/requests/${this.cuts}`) {
      // Hence answers when the request is durable and decided.
      response.end = () => {
        request.socket.destroy()
        this.#cut?.resolve()
        return response
      }
    }
    this.#site.listener(request, response)
  }
}

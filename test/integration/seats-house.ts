import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createEngine, type Engine } from 'hence'
import { memoryStorage } from 'hence/testing'
import type { Seats } from '../../examples/seats/seats.ts'
import { openSite, type Site } from '../../examples/seats/site.ts'
import { decodeRecord } from '../../src/log/record.ts'

/** The seats site in this process, with network faults. */
export class SeatsHouse {
  readonly #data = memoryStorage()
  #site!: Site
  #web!: Server
  engine!: Engine<Seats>
  /** The answers to these requests are cut off after they are decided. */
  cuts: string | undefined
  #isUnplugged = false
  #cut: PromiseWithResolvers<void> | undefined
  #gathering: { readonly type: string; readonly count: number; readonly waiting: (() => void)[] } | undefined

  static async open(): Promise<SeatsHouse> {
    const house = new SeatsHouse()
    house.engine = await createEngine<Seats>({
      app: import.meta.resolve('../../examples/seats/seats.ts'),
      data: house.#data,
    })
    house.#site = await openSite(house.engine)
    house.#web = createServer((request, response) => house.#take(request, response)).listen(0, '127.0.0.1')
    house.#web.on('connection', (socket) => {
      if (house.#isUnplugged) socket.destroy()
    })
    await once(house.#web, 'listening')
    return house
  }

  get url(): string {
    return `http://localhost:${(this.#web.address() as AddressInfo).port}/`
  }

  /** Ends all connections and refuses new ones, or accepts them again. */
  unplug(unplugged: boolean): void {
    this.#isUnplugged = unplugged
    if (unplugged) this.#web.closeAllConnections()
  }

  /** Resolves when the next answer has been cut off. */
  cut(): Promise<void> {
    this.#cut = Promise.withResolvers()
    return this.#cut.promise
  }

  /** Holds requests of a type back until this many have arrived. */
  gather(type: string, count: number): void {
    this.#gathering = { type, count, waiting: [] }
  }

  /** The types of all requests in the log, in order. */
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
    if (request.url === `/hence/requests/${this.cuts}`) {
      // Hence answers when the request is durable and decided.
      response.end = () => {
        request.socket.destroy()
        this.#cut?.resolve()
        return response
      }
    }
    const go = () => this.#site.listener(request, response)
    const gathering = this.#gathering
    if (request.url === `/hence/requests/${gathering?.type}`) gathering?.waiting.push(go)
    else go()
    if (gathering === undefined || gathering.waiting.length < gathering.count) return
    this.#gathering = undefined
    for (const each of gathering.waiting) each()
  }
}

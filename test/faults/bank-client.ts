import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Reply } from 'hence'
import type { Sent } from './bank.ts'
import type { Ask, End, Tell } from './bank-process.ts'
import type { Ledger } from './ledger.ts'

const main = fileURLToPath(import.meta.resolve('./bank-process.ts'))

const requestsInFlight = 48
const accountCount = 24

/** When a process is killed. */
export type Kill =
  /** This long after its start, whether it is ready or not. */
  | { readonly afterMs: number }
  /** A little after it has given so many replies. */
  | { readonly afterReplies: number; readonly thenMs: number }

/** What happened, to be sure that it was worth the while. */
export interface Figures {
  requests: number
  rejected: number
  /** Requests that no reply had come to when the process was killed. */
  cutOff: number
  /** Of those, the ones that turned out to be decided already. */
  decidedUnheard: number
  /** Replies to requests that had been answered before. */
  repeated: number
  killedBeforeReady: number
  tornTails: number
}

/**
 * The client of the bank: it sends requests, keeps a ledger, sends again what was not answered, and some of
 * what was, and holds every reply against the first one.
 */
export class BankClient {
  readonly figures: Figures = {
    requests: 0,
    rejected: 0,
    cutOff: 0,
    decidedUnheard: 0,
    repeated: 0,
    killedBeforeReady: 0,
    tornTails: 0,
  }
  readonly #directory: string
  readonly #ledger: Ledger
  readonly #random: () => number
  readonly #unanswered = new Map<string, Sent>()
  readonly #answered: { readonly sent: Sent; readonly reply: Reply }[] = []
  readonly #placeOf = new Map<string, number>()
  /** Requests that a process died with; a reply to one of them tells which side of the log the kill fell on. */
  readonly #cutOff = new Set<string>()

  constructor(directory: string, ledger: Ledger, random: () => number) {
    this.#directory = directory
    this.#ledger = ledger
    this.#random = random
  }

  /** Works with a process until it is killed. */
  async until(kill: Kill): Promise<void> {
    const life = new Life(this.#directory, this.figures)
    let timer: NodeJS.Timeout | undefined
    if ('afterMs' in kill) timer = setTimeout(() => life.kill(), kill.afterMs)
    let count = 0
    life.onReady = () => {
      const again = Array.from({ length: 16 }, () => this.#anyAnswered())
      life.send([...this.#unanswered.values(), ...again.filter((sent) => sent !== undefined)])
      this.#fill(life)
    }
    life.onReplies = (replies) => {
      this.#take(replies)
      this.#fill(life)
      count += replies.length
      if ('afterReplies' in kill && count >= kill.afterReplies)
        timer ??= setTimeout(() => life.kill(), kill.thenMs)
    }
    await life.ended
    clearTimeout(timer)
    assert.ok(life.killed, 'the process ended by itself')
    if (!life.ready) this.figures.killedBeforeReady++
    this.figures.cutOff += this.#unanswered.size
    for (const id of this.#unanswered.keys()) this.#cutOff.add(id)
  }

  /** Sends all that was ever sent once more to a process that nobody kills, and asks it for all it has. */
  async settle(): Promise<End> {
    const life = new Life(this.#directory, this.figures)
    let left: Sent[] = []
    const more = () => {
      life.send(left.splice(0, requestsInFlight - life.outstanding))
      if (life.outstanding === 0) life.askForEnd()
    }
    life.onReady = () => {
      left = [...this.#unanswered.values(), ...this.#answered.map(({ sent }) => sent)]
      more()
    }
    life.onReplies = (replies) => {
      this.#take(replies)
      more()
    }
    await life.ended
    assert.equal(this.#unanswered.size, 0)
    return life.end()
  }

  #fill(life: Life): void {
    const fresh: Sent[] = []
    const again: Sent[] = []
    while (life.outstanding + fresh.length + again.length < requestsInFlight) {
      const chance = this.#random()
      const old = chance < 0.1 ? this.#anyAnswered() : chance < 0.15 ? fresh.at(-1) : undefined
      if (old) again.push(old)
      else fresh.push(this.#newRequest())
    }
    // Stored before it is sent: what is not in the ledger was never sent.
    this.#ledger.sent(fresh)
    for (const sent of fresh) this.#unanswered.set(sent.id, sent)
    life.send([...fresh, ...again])
  }

  #take(replies: readonly Reply[]): void {
    const firsts: Reply[] = []
    for (const reply of replies) {
      const { requestId } = reply
      const place = this.#placeOf.get(requestId)
      if (place !== undefined) {
        const { replayed: _, ...first } = this.#answered[place]!.reply
        const { replayed, ...again } = reply
        assert.deepEqual(again, first, `${requestId} got another reply than the first time`)
        assert.ok(replayed, `${requestId} was answered before and passes for new`)
        this.figures.repeated++
        continue
      }
      const sent = this.#unanswered.get(requestId)
      assert.ok(sent, `a reply to ${requestId}, which was never sent`)
      this.#unanswered.delete(requestId)
      this.#placeOf.set(requestId, this.#answered.push({ sent, reply }) - 1)
      firsts.push(reply)
      if (reply.status === 'rejected') this.figures.rejected++
      if (this.#cutOff.delete(requestId) && reply.replayed) this.figures.decidedUnheard++
    }
    this.#ledger.answered(firsts)
  }

  #anyAnswered(): Sent | undefined {
    return this.#answered[this.#below(this.#answered.length)]?.sent
  }

  #newRequest(): Sent {
    const id = `request-${this.figures.requests++}`
    const account = `account-${this.#below(accountCount)}`
    const cents = 1 + this.#below(100)
    if (this.#random() < 0.5) return { id, type: 'deposit', input: { account, cents } }
    const to = `account-${this.#below(accountCount)}`
    return { id, type: 'pay', input: { account, to, cents: 2 * cents } }
  }

  #below(n: number): number {
    return Math.floor(this.#random() * n)
  }
}

/** One process of the bank, from its start to its end. */
class Life {
  onReady: () => void = () => {}
  onReplies: (replies: readonly Reply[]) => void = () => {}
  ready = false
  killed = false
  /** Requests that it was sent and has not answered. */
  outstanding = 0
  /** Resolves when it has ended and all it told was heard. */
  readonly ended: Promise<void>
  readonly #child
  #end: End | undefined

  constructor(directory: string, figures: Figures) {
    const child = fork(main, [directory], { execArgv: ['-C', 'source'] })
    this.#child = child
    const left = new Promise<void>((resolve) => child.on('exit', () => resolve()))
    const heard = new Promise<void>((resolve) => child.on('disconnect', resolve))
    const failed = new Promise<never>((_, reject) => {
      child.on('error', reject)
      child.on('message', (message: Tell) => {
        try {
          this.#hear(message, figures)
        } catch (error) {
          this.kill()
          reject(error)
        }
      })
    })
    this.ended = Promise.race([Promise.all([left, heard]).then(() => {}), failed])
  }

  send(requests: readonly Sent[]): void {
    if (requests.length === 0) return
    this.outstanding += requests.length
    this.#ask({ send: requests })
  }

  askForEnd(): void {
    this.#ask({ end: true })
  }

  end(): End {
    assert.ok(this.#end, 'the process ended by itself')
    return this.#end
  }

  kill(): void {
    this.killed = true
    this.#child.kill('SIGKILL')
  }

  #ask(ask: Ask): void {
    // What cannot be sent any more is as good as lost on the way.
    if (this.#child.connected) this.#child.send(ask, () => {})
  }

  #hear(message: Tell, figures: Figures): void {
    if ('ready' in message) {
      this.ready = true
      this.onReady()
    } else if ('replies' in message) {
      this.outstanding -= message.replies.length
      this.onReplies(message.replies)
    } else if ('report' in message) {
      assert.equal(message.report.code, 'log-torn-tail', message.report.message)
      figures.tornTails++
    } else if ('end' in message) {
      this.#end = message.end
    } else {
      assert.fail(message.error)
    }
  }
}

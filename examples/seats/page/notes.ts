import type { SeatName } from './known-seats.ts'
import type { Note } from './words.ts'

/** How many notes are shown; the oldest are removed. */
const notesMax = 3

/** Notes about the outcome of the passenger's requests, newest first, one for each seat. */
export class Notes {
  readonly #list: HTMLElement
  readonly #shown = new Map<SeatName, HTMLElement>()

  constructor(list: HTMLElement) {
    this.#list = list
  }

  show(seat: SeatName, { tone, text }: Note): void {
    this.#drop(seat)
    const element = document.createElement('p')
    element.className = 'note'
    element.dataset['tone'] = tone
    const words = document.createElement('span')
    words.textContent = text
    const close = document.createElement('button')
    close.type = 'button'
    close.textContent = '×'
    close.ariaLabel = 'Dismiss this message'
    close.addEventListener('click', () => this.#drop(seat))
    element.append(words, close)
    this.#list.prepend(element)
    this.#shown.set(seat, element)
    if (this.#shown.size > notesMax) this.#drop(this.#shown.keys().next().value!)
  }

  toneOf(seat: SeatName): string | undefined {
    return this.#shown.get(seat)?.dataset['tone']
  }

  #drop(seat: SeatName): void {
    this.#shown.get(seat)?.remove()
    this.#shown.delete(seat)
  }
}

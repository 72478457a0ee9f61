import type { SeatName } from './known-seats.ts'
import type { WishType } from './wishes.ts'

/** The content of a card. */
export interface CardFace {
  readonly look: 'held' | 'booked' | 'waiting'
  readonly text: string
  /** The actions that are possible now. */
  readonly can: ReadonlySet<WishType>
}

/** The passenger's seats, one card each, the latest first, with the possible actions. */
export class Cards {
  readonly #list: HTMLElement
  readonly #asked: (type: WishType, seat: SeatName) => void
  readonly #cards = new Map<SeatName, Card>()

  constructor(list: HTMLElement, asked: (type: WishType, seat: SeatName) => void) {
    this.#list = list
    this.#asked = asked
  }

  draw(faces: ReadonlyMap<SeatName, CardFace>): void {
    for (const [name, card] of this.#cards) {
      if (faces.has(name)) continue
      card.element.remove()
      this.#cards.delete(name)
    }
    for (const [name, face] of faces) {
      let card = this.#cards.get(name)
      if (card === undefined) {
        card = makeCard(name, (type) => this.#asked(type, name))
        this.#cards.set(name, card)
        this.#list.prepend(card.element)
      }
      drawCard(card, face)
    }
  }

  focus(name: SeatName): void {
    const element = this.#cards.get(name)?.element
    element?.focus({ preventScroll: true })
    element?.scrollIntoView({ block: 'nearest' })
  }
}

interface Card {
  readonly element: HTMLElement
  readonly heading: HTMLElement
  readonly text: HTMLElement
  readonly buttons: ReadonlyMap<WishType, HTMLButtonElement>
}

function makeCard(name: SeatName, asked: (type: WishType) => void): Card {
  const element = document.createElement('li')
  element.tabIndex = -1
  element.dataset['seat'] = name
  const heading = document.createElement('h3')
  heading.className = 'chair'
  heading.textContent = name
  const text = document.createElement('p')
  const actions = document.createElement('div')
  const buttons = new Map<WishType, HTMLButtonElement>()
  for (const [type, label] of [
    ['book-seat', 'Book'],
    ['release-seat', 'Give back'],
  ] as const) {
    const button = document.createElement('button')
    button.type = 'button'
    button.textContent = label
    button.ariaLabel = `${label} seat ${name}`
    button.addEventListener('click', () => asked(type))
    buttons.set(type, button)
    actions.append(button)
  }
  element.append(heading, text, actions)
  return { element, heading, text, buttons }
}

function drawCard({ element, heading, text, buttons }: Card, face: CardFace): void {
  element.dataset['look'] = face.look
  heading.dataset['look'] = face.look
  // Screen readers read a text again whenever it is set, so set it only if it changed.
  if (text.textContent !== face.text) text.textContent = face.text
  for (const [type, button] of buttons) {
    const hidden = !face.can.has(type)
    // When the focused button disappears, the focus must not jump to the top of the page.
    if (hidden && document.activeElement === button) element.focus({ preventScroll: true })
    button.hidden = hidden
  }
}

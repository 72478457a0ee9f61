import type { Seat, SeatName } from './known-seats.ts'
import { type Look, looks } from './words.ts'

/**
 * The map of the cabin: a grid for mouse, keyboard and screen readers. Tab reaches one seat, the arrow keys
 * the others.
 */
export class SeatMap {
  readonly #grid: HTMLElement
  readonly #buttons = new Map<SeatName, HTMLButtonElement>()
  #at: SeatName | undefined

  constructor(grid: HTMLElement, chosen: (seat: SeatName) => void) {
    this.#grid = grid
    // The role `grid` promises arrow keys, so only the script sets it.
    grid.role = 'grid'
    grid.addEventListener('click', ({ target }) => {
      const button = (target as Element).closest('button')
      if (button === null) return
      this.#reach(button.name)
      chosen(button.name)
    })
    grid.addEventListener('keydown', (event) => {
      const next = this.#next((event.target as HTMLButtonElement).name, event.key)
      if (next === undefined) return
      event.preventDefault()
      this.#reach(next)
      this.#buttons.get(next)!.focus()
    })
  }

  draw(seats: ReadonlyMap<SeatName, Seat>, lookOf: (seat: SeatName) => Look): void {
    if (this.#buttons.size !== seats.size) this.#build([...seats.values()])
    for (const [name, button] of this.#buttons) {
      const look = lookOf(name)
      if (button.dataset['look'] === look) continue
      button.dataset['look'] = look
      button.ariaLabel = `Seat ${name}, ${looks[look]}`
      // Not `disabled`: screen reader users must be able to move over a seat that is taken.
      button.ariaDisabled = String(look === 'taken')
    }
  }

  #build(seats: readonly Seat[]): void {
    const rows = Map.groupBy(seats, ({ row }) => row)
    const letters = [...new Set(seats.map(({ letter }) => letter))].sort()
    const aisle = Math.ceil(letters.length / 2)
    this.#buttons.clear()
    const lines = [...rows]
      .sort(([a], [b]) => a - b)
      .map(([row, seats]) => {
        const cells = seats
          .toSorted((a, b) => (a.letter < b.letter ? -1 : 1))
          .map(({ letter }) => this.#seat(`${row}${letter}`, letter))
        return line(aisle, cells, head('row', String(row)))
      })
    const heads = letters.map((letter) => head('col', letter))
    this.#grid.replaceChildren(line(aisle, heads, document.createElement('td')), ...lines)
    this.#reach(this.#at ?? [...this.#buttons.keys()][0]!)
  }

  #seat(name: SeatName, letter: string): HTMLElement {
    const button = document.createElement('button')
    button.type = 'button'
    button.className = 'chair'
    button.name = name
    button.tabIndex = -1
    button.textContent = letter
    this.#buttons.set(name, button)
    const cell = document.createElement('td')
    cell.append(button)
    return cell
  }

  /** Makes a seat the one that Tab reaches. */
  #reach(name: SeatName): void {
    const old = this.#at === undefined ? undefined : this.#buttons.get(this.#at)
    if (old) old.tabIndex = -1
    this.#at = name
    const button = this.#buttons.get(name)
    if (button) button.tabIndex = 0
  }

  #next(name: SeatName, key: string): SeatName | undefined {
    const names = [...this.#buttons.keys()]
    const width = names.filter((each) => Number.parseInt(each, 10) === Number.parseInt(name, 10)).length
    const at = names.indexOf(name)
    const start = at - (at % width)
    const steps: Record<string, number> = {
      ArrowLeft: Math.max(at - 1, start),
      ArrowRight: Math.min(at + 1, start + width - 1),
      ArrowUp: at - width,
      ArrowDown: at + width,
      Home: start,
      End: start + width - 1,
    }
    return names[steps[key] ?? -1]
  }
}

function head(scope: 'row' | 'col', text: string): HTMLElement {
  const cell = document.createElement('th')
  cell.scope = scope
  cell.textContent = text
  return cell
}

/** Seats on both sides of the aisle, which shows the number of the row. */
function line(aisle: number, cells: readonly HTMLElement[], middle: HTMLElement): HTMLElement {
  const row = document.createElement('tr')
  row.append(...cells.slice(0, aisle), middle, ...cells.slice(aisle))
  return row
}

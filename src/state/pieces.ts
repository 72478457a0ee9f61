/**
 * Work that is done piece by piece: where it yields the state is whole, and other work can go on.
 * A piece is one or two milliseconds long.
 */
export type Pieces = Generator<void, void, void>

/** How many rows a piece changes at most. */
export const pieceRows = 256

export function inOnePiece(work: Pieces): void {
  for (const _ of work);
}

/**
 * Deletes items, the next piece from where the last one ended: it does not pass over what that has deleted.
 * @param from returns the items from behind the last one, or from the first
 * @param limit how many are deleted at most
 */
export function* inPieces<Item>(
  from: (last: Item | undefined) => Iterable<Item>,
  remove: (item: Item) => void,
  limit: number = Number.POSITIVE_INFINITY,
): Pieces {
  let last: Item | undefined
  for (let left = limit; left > 0; left -= pieceRows) {
    const items = firstOf(from(last), Math.min(left, pieceRows))
    for (const item of items) remove(item)
    if (items.length < pieceRows) return
    last = items.at(-1)
    yield
  }
}

function firstOf<Item>(items: Iterable<Item>, count: number): Item[] {
  const first: Item[] = []
  for (const item of items) {
    if (first.length >= count) break
    first.push(item)
  }
  return first
}

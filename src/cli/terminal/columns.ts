/** The number of terminal columns that plain text takes, at most. */
export function widthOf(text: string): number {
  let width = 0
  for (const character of text) width += columnsOf(character)
  return width
}

/** Shortens plain text to a number of columns; shortened text ends in `…`. */
export function cut(text: string, columns: number): string {
  let width = 0
  let kept = 0
  let length = 0
  for (const character of text) {
    width += columnsOf(character)
    if (width > columns) return `${text.slice(0, kept)}…`
    length += character.length
    if (width < columns) kept = length
  }
  return text
}

/**
 * Shortens two different plain texts to a number of columns each, so that their first difference is visible:
 * leaves out as much of their common beginning as necessary.
 */
export function cutToDifference(a: string, b: string, columns: number): [a: string, b: string] {
  let same = 0
  while (same < a.length && a[same] === b[same]) same++
  if (same < columns / 2) return [cut(a, columns), cut(b, columns)]
  let from = same - Math.floor(columns / 4)
  // Do not split a surrogate pair.
  if (/^[\udc00-\udfff]/.test(a.slice(from, from + 1))) from--
  return [cut(`…${a.slice(from)}`, columns), cut(`…${b.slice(from)}`, columns)]
}

// East Asian wide characters (UAX #11) and emoji. Taking a narrow character for a wide one costs a column.
const wide =
  /\p{Extended_Pictographic}|[\u1100-\u115f\u2e80-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{16fe0}-\u{18aff}\u{1b000}-\u{1b2ff}\u{1f000}-\u{1faff}\u{20000}-\u{3fffd}]/u

/** A combining mark counts as a column, so that any number of them still fills a line. */
function columnsOf(character: string): 1 | 2 {
  return character > '\u10ff' && wide.test(character) ? 2 : 1
}

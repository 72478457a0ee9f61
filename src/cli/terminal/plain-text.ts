/**
 * Text that somebody else has made, as a terminal or a page can show it: control characters, and those that turn the direction
 * of writing or are not seen at all, are written as `\u{…}`, so that nothing in it acts, and it stays on its line.
 */
export function plain(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (character) => {
    return `\\u{${character.codePointAt(0)!.toString(16)}}`
  })
}

/** The columns of a terminal that plain text takes, at most. */
export function widthOf(text: string): number {
  let width = 0
  for (const character of text) width += columnsOf(character)
  return width
}

/** As much of a plain text as a number of columns holds; where something is left out it ends in `…`. */
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
 * Two different plain texts, each within a number of columns, so that it is seen where they differ: what they begin with in
 * common is left out as far as it must be.
 */
export function cutToDifference(a: string, b: string, columns: number): [a: string, b: string] {
  let same = 0
  while (same < a.length && a[same] === b[same]) same++
  if (same < columns / 2) return [cut(a, columns), cut(b, columns)]
  let from = same - Math.floor(columns / 4)
  // Not into the middle of a pair of surrogates.
  if (/^[\udc00-\udfff]/.test(a.slice(from, from + 1))) from--
  return [cut(`…${a.slice(from)}`, columns), cut(`…${b.slice(from)}`, columns)]
}

// East Asian wide characters (UAX #11) and emoji; what is taken for wide and is not costs a column.
const wide =
  /\p{Extended_Pictographic}|[\u1100-\u115f\u2e80-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{16fe0}-\u{18aff}\u{1b000}-\u{1b2ff}\u{1f000}-\u{1faff}\u{20000}-\u{3fffd}]/u

/** A mark that is set upon another character counts as one, so that no number of them makes a line endless. */
function columnsOf(character: string): 1 | 2 {
  return character > '\u10ff' && wide.test(character) ? 2 : 1
}

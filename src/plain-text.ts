/** A number of things: `1 record`, `2 records`. */
export const counted = (n: number, one: string, many = `${one}s`) => `${n} ${n === 1 ? one : many}`

/**
 * Makes text that was not made by Hence safe to show: writes control, bidirectional and invisible characters
 * as `\\u…`, so that none takes effect on a terminal or a page, and the text stays on its line. JSON keeps
 * its meaning. All such text passes here on its way to a terminal, a log, Markdown or a label of Prometheus.
 */
export function plain(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (character) => {
    let escaped = ''
    for (let i = 0; i < character.length; i++) {
      escaped += `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`
    }
    return escaped
  })
}

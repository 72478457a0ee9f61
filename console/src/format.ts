const dateTime = new Intl.DateTimeFormat('en-GB', {
  dateStyle: 'medium',
  timeStyle: 'medium',
})
const dayAndTime = new Intl.DateTimeFormat('en-GB', {
  day: 'numeric',
  month: 'short',
  hour: '2-digit',
  minute: '2-digit',
})
const clockTime = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' })
const wholeNumber = new Intl.NumberFormat('en-US')
const rounded = new Intl.NumberFormat('en-US', { maximumFractionDigits: 1 })

export const fullTime = (at: number) => dateTime.format(at)
export const minuteTime = (at: number) => dayAndTime.format(at)
export const timeOfDay = (at: number) => clockTime.format(at)
/** With milliseconds, since records of one second differ by them. */
export const exactTime = (at: number) => `${clockTime.format(at)}.${String(at % 1000).padStart(3, '0')}`
export const count = (n: number) => wholeNumber.format(n)
export const decimal = (n: number) => rounded.format(n)

/** A span of time in its largest unit: `41m`, `3h`. */
export function span(ms: number): string {
  const size = Math.abs(ms)
  if (size < 1_000) return `${Math.round(size)} ms`
  if (size < 60_000) return `${Math.round(size / 1_000)} s`
  if (size < 3_600_000) return `${Math.round(size / 60_000)} min`
  if (size < 48 * 3_600_000) return `${Math.round(size / 3_600_000)} h`
  return `${Math.round(size / 86_400_000)} d`
}

/** How long something is past; what is nearer than a second would flicker. */
export const ago = (ms: number) => (ms < 1_000 ? 'just now' : `${span(ms)} ago`)

/** A measured duration: milliseconds, or seconds with a tenth. */
export const exactSpan = (ms: number) =>
  ms < 10_000 ? `${count(ms)} ms` : ms < 120_000 ? `${decimal(ms / 1_000)} s` : span(ms)

/** The beginning and the end of an id, where ids differ. */
export function shortId(id: string): string {
  return id.length <= 18 ? id : `${id.slice(0, 8)}…${id.slice(-4)}`
}

/** JSON in one line, cut off. */
export function brief(value: unknown, length = 120): string {
  const text = JSON.stringify(value) ?? ''
  return text.length <= length ? text : `${text.slice(0, length)}…`
}

export const shellQuoted = (text: string) =>
  /^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`

/** A count that ended at a bound has a plus. */
export const bounded = (n: number, more: boolean) => `${count(n)}${more ? '+' : ''}`

/** The number of something, with its noun. */
export const plural = (n: number, noun: string) => `${count(n)} ${noun}${n === 1 ? '' : 's'}`

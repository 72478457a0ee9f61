/** One line of a plot. */
export interface Series {
  readonly name: string
  readonly points: readonly (readonly [x: number, y: number])[]
}

export interface Plot {
  readonly title: string
  /** `log`: every factor of ten takes the same room. */
  readonly x: { readonly label: string; readonly log?: true }
  readonly y: { readonly label: string; readonly log?: true }
  readonly series: readonly Series[]
}

const [width, height] = [720, 380]
const room = { left: 76, right: 24, top: 64, bottom: 52 }
const colours = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9']

/** Draws lines as SVG, with its own background, so that it can be read in a dark page too. */
export function svgOf({ title, x, y, series }: Plot): string {
  const points = series.flatMap((each) => each.points)
  const across = axis(
    points.map(([at]) => at),
    x.log,
    room.left,
    width - room.right,
  )
  const up = axis(
    points.map(([, at]) => at),
    y.log,
    height - room.bottom,
    room.top,
  )
  const [left, right, bottom] = [room.left, width - room.right, height - room.bottom]
  const line = (x1: number, y1: number, x2: number, y2: number, colour: string) =>
    `<line x1="${fixed(x1)}" y1="${fixed(y1)}" x2="${fixed(x2)}" y2="${fixed(y2)}" stroke="${colour}"/>`
  const text = (at: readonly [number, number], anchor: string, words: string, more = '') =>
    `<text x="${fixed(at[0])}" y="${fixed(at[1])}" text-anchor="${anchor}"${more}>${escaped(words)}</text>`
  let legendAt = left
  const parts = [
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    text([left, 24], 'start', title, ' font-size="16" font-weight="bold"'),
    ...up.ticks.flatMap((tick) => [
      line(left, up.place(tick), right, up.place(tick), '#e4e4e4'),
      text([left - 8, up.place(tick) + 4], 'end', short(tick)),
    ]),
    ...across.ticks.flatMap((tick) => [
      line(across.place(tick), bottom, across.place(tick), bottom + 5, '#666'),
      text([across.place(tick), bottom + 20], 'middle', short(tick)),
    ]),
    line(left, bottom, right, bottom, '#666'),
    text([(left + right) / 2, height - 12], 'middle', x.label),
    text([0, 0], 'middle', y.label, ` transform="translate(18 ${(room.top + bottom) / 2}) rotate(-90)"`),
    ...series.flatMap(({ name, points: own }, i) => {
      const colour = colours[i % colours.length]!
      const at = legendAt
      legendAt += 30 + name.length * 7.5
      const path = own.map(([a, b]) => `${fixed(across.place(a))},${fixed(up.place(b))}`).join(' ')
      return [
        `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`,
        ...(own.length > 40
          ? []
          : own.map(
              ([a, b]) =>
                `<circle cx="${fixed(across.place(a))}" cy="${fixed(up.place(b))}" r="3" fill="${colour}"/>`,
            )),
        `<rect x="${fixed(at)}" y="38" width="14" height="4" fill="${colour}"/>`,
        text([at + 20, 45], 'start', name),
      ]
    }),
  ]
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" ` +
      'font-size="12" fill="#222">',
    `<title>${escaped(title)}</title>`,
    ...parts,
    '</svg>\n',
  ].join('\n')
}

/** Places numbers between two ends of an axis, and chooses its ticks. */
function axis(numbers: readonly number[], isLog: true | undefined, from: number, to: number) {
  const greatest = Math.max(...numbers) || 1
  const smallest = Math.min(...numbers)
  if (isLog) {
    const [low, high] = [Math.floor(Math.log10(smallest)), Math.ceil(Math.log10(greatest))]
    const part = (at: number) => (Math.log10(at) - low) / Math.max(1, high - low)
    const decades = Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i))
    return { ticks: decades, place: (at: number) => from + part(at) * (to - from) }
  }
  const steps = [1, 2, 5, 10].map((step) => step * 10 ** Math.floor(Math.log10(greatest / 6)))
  const step = steps.find((each) => greatest / each <= 6)!
  const end = Math.ceil(greatest / step) * step
  const ticks = Array.from({ length: Math.round(end / step) + 1 }, (_, i) => i * step)
  return { ticks, place: (at: number) => from + (at / end) * (to - from) }
}

function short(tick: number): string {
  if (tick >= 1e6) return `${Number((tick / 1e6).toPrecision(3))} M`
  if (tick >= 1e3) return `${Number((tick / 1e3).toPrecision(3))} k`
  return String(Number(tick.toPrecision(3)))
}

function fixed(at: number): string {
  return String(Number(at.toFixed(1)))
}

function escaped(words: string): string {
  return words.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}

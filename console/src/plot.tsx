import 'uplot/dist/uPlot.min.css'
import { useEffect, useRef } from 'react'
import uPlot from 'uplot'
import { decimal, timeOfDay } from './format.ts'

const height = 150
const decades = [1, 10, 100, 1e3, 1e4, 1e5, 1e6].flatMap((ten) => [ten, 2 * ten, 5 * ten])

export interface PlotLine {
  readonly label: string
  readonly look: 'good' | 'warn' | 'bad' | 'accent'
  /** Null where there is none. */
  readonly values: readonly (number | null)[]
}

interface PlotProps {
  readonly caption: string
  /** Milliseconds since 1970. */
  readonly at: readonly number[]
  readonly lines: readonly PlotLine[]
}

/** Lines over time. A canvas says nothing to a screen reader, so a table stands beside it. */
export default function Plot({ caption, at, lines }: PlotProps) {
  // The first line is drawn last, so that it covers others at zero.
  const looks = lines
    .map(({ look }) => look)
    .reverse()
    .join()
  const frame = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot>(undefined)
  const shown = useRef<uPlot.AlignedData>([[]])
  useEffect(() => {
    const element = frame.current!
    const colour = (name: string) => getComputedStyle(element).getPropertyValue(name).trim()
    const make = () => {
      const axis = {
        stroke: colour('--quiet'),
        grid: { stroke: colour('--line'), width: 1 },
        ticks: { show: false },
      }
      const line = (label: string, name: string) => ({
        label,
        stroke: colour(name),
        width: 1.5,
        points: { show: false },
      })
      plot.current?.destroy()
      plot.current = new uPlot(
        {
          width: element.clientWidth,
          height,
          legend: { show: false },
          cursor: { show: false },
          series: [{}, ...looks.split(',').map((look) => line(look, `--${look}`))],
          axes: [
            {
              ...axis,
              size: 26,
              space: 90,
              // A second is the least step, so no label appears twice.
              incrs: [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 14_400, 21_600],
              font: '11px system-ui',
              values: (_, at) => at.map((s) => timeOfDay(s * 1_000)),
            },
            // No tick of 2.5 requests.
            { ...axis, size: 42, space: 24, font: '11px system-ui', incrs: [0.5, ...decades] },
          ],
          scales: { y: { range: (_, __, max) => [0, Math.max(1, max * 1.1)] } },
        },
        shown.current,
        element,
      )
    }
    make()
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height }))
    resized.observe(element)
    // The colours follow the theme, chosen here or by the system.
    const themed = new MutationObserver(make)
    themed.observe(document.documentElement, { attributeFilter: ['data-theme'] })
    const dark = matchMedia('(prefers-color-scheme: dark)')
    dark.addEventListener('change', make)
    return () => {
      dark.removeEventListener('change', make)
      themed.disconnect()
      resized.disconnect()
      plot.current?.destroy()
      plot.current = undefined
    }
  }, [looks])
  useEffect(() => {
    shown.current = [at.map((ms) => ms / 1_000), ...lines.map(({ values }) => [...values]).reverse()]
    plot.current?.setData(shown.current)
  }, [at, lines])
  return (
    <figure className="plot">
      <div ref={frame} className="plot-frame" aria-hidden="true" />
      <figcaption className="legend" aria-hidden="true">
        {lines.map(({ label, look }) => (
          <span key={label} className={`key ${look}`}>
            {label}
          </span>
        ))}
      </figcaption>
      <div className="sr">
        <table>
          <caption>{caption}, the newest first</caption>
          <thead>
            <tr>
              <th scope="col">Time</th>
              {lines.map(({ label }) => (
                <th key={label} scope="col">
                  {label}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {[...at.keys()]
              .slice(-20)
              .reverse()
              .map((i) => (
                <tr key={at[i]}>
                  <td>{timeOfDay(at[i]!)}</td>
                  {lines.map(({ label, values }) => (
                    <td key={label}>{values[i] == null ? 'none' : decimal(values[i])}</td>
                  ))}
                </tr>
              ))}
          </tbody>
        </table>
      </div>
    </figure>
  )
}

import 'uplot/dist/uPlot.min.css'
import { useEffect, useRef } from 'react'
import uPlot from 'uplot'
import { decimal, timeOfDay } from './format.ts'
import type { Sample } from './live.ts'

const height = 150

/** Requests a second over time, by outcome. A canvas says nothing to a screen reader, so a table stands beside it. */
export default function Plot({ samples }: { samples: readonly Sample[] }) {
  const frame = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot>(undefined)
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
          series: [{}, line('accepted', '--good'), line('rejected', '--warn'), line('failed', '--bad')],
          axes: [
            {
              ...axis,
              size: 26,
              space: 90,
              // A second is the least step, so no label appears twice.
              incrs: [1, 2, 5, 10, 15, 30, 60, 120, 300, 600],
              font: '11px system-ui',
              values: (_, at) => at.map((s) => timeOfDay(s * 1_000)),
            },
            { ...axis, size: 42, font: '11px system-ui' },
          ],
          scales: { y: { range: (_, __, max) => [0, Math.max(1, max * 1.1)] } },
        },
        [[], [], [], []],
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
  }, [])
  useEffect(() => {
    plot.current?.setData([
      samples.map(({ at }) => at / 1_000),
      samples.map(({ accepted }) => accepted),
      samples.map(({ rejected }) => rejected),
      samples.map(({ failed }) => failed),
    ])
  }, [samples])
  return (
    <figure className="plot">
      <div ref={frame} className="plot-frame" aria-hidden="true" />
      <figcaption className="legend" aria-hidden="true">
        <span className="key good">accepted</span>
        <span className="key warn">rejected</span>
        <span className="key bad">failed</span>
      </figcaption>
      <table className="sr">
        <caption>Requests a second by outcome, the newest first</caption>
        <thead>
          <tr>
            <th scope="col">Time</th>
            <th scope="col">Accepted</th>
            <th scope="col">Rejected</th>
            <th scope="col">Failed</th>
          </tr>
        </thead>
        <tbody>
          {samples
            .slice(-20)
            .reverse()
            .map(({ at, accepted, rejected, failed }) => (
              <tr key={at}>
                <td>{timeOfDay(at)}</td>
                <td>{decimal(accepted)}</td>
                <td>{decimal(rejected)}</td>
                <td>{decimal(failed)}</td>
              </tr>
            ))}
        </tbody>
      </table>
    </figure>
  )
}

import { brief } from './format.ts'

type Fields = Readonly<Record<string, unknown>>

/** A value before and after, field by field; undefined where there was none. */
export function Compared({ before, after }: { before: unknown; after: unknown }) {
  const [old, now] = [fieldsOf(before), fieldsOf(after)]
  return (
    <table className="data">
      <thead>
        <tr>
          <th scope="col">Field</th>
          <th scope="col">Before</th>
          <th scope="col">After</th>
        </tr>
      </thead>
      <tbody>
        {Object.keys({ ...old, ...now }).map((field) => {
          const isChanged = JSON.stringify(old[field]) !== JSON.stringify(now[field])
          return (
            <tr key={field} className={isChanged ? `changed ${before === undefined ? 'new' : ''}` : ''}>
              <th scope="row">{field}</th>
              <td className="mono">{before === undefined ? '–' : brief(old[field])}</td>
              <td className="mono">{after === undefined ? '–' : brief(now[field])}</td>
            </tr>
          )
        })}
      </tbody>
    </table>
  )
}

const fieldsOf = (value: unknown): Fields =>
  typeof value === 'object' && value !== null ? (value as Fields) : value === undefined ? {} : { value }

import { Link } from '@tanstack/react-router'
import type { Story } from './api.ts'
import { brief } from './format.ts'

type Fields = Readonly<Record<string, unknown>>

/** A value before and after, field by field; a side without a value has no column. */
export function Compared({ before, after }: { before: unknown; after: unknown }) {
  const [old, now] = [fieldsOf(before), fieldsOf(after)]
  return (
    <table className="data">
      <thead>
        <tr>
          <th scope="col">Field</th>
          {before !== undefined && <th scope="col">Before</th>}
          {after !== undefined && <th scope="col">After</th>}
        </tr>
      </thead>
      <tbody>
        {Object.keys({ ...old, ...now }).map((field) => {
          const isChanged = JSON.stringify(old[field]) !== JSON.stringify(now[field])
          return (
            <tr
              key={field}
              className={
                isChanged ? `changed ${before === undefined ? 'new' : after === undefined ? 'gone' : ''}` : ''
              }
            >
              <th scope="row">{field}</th>
              {before !== undefined && <td className="mono">{brief(old[field])}</td>}
              {after !== undefined && <td className="mono">{brief(now[field])}</td>}
            </tr>
          )
        })}
      </tbody>
    </table>
  )
}

const fieldsOf = (value: unknown): Fields =>
  typeof value === 'object' && value !== null ? (value as Fields) : value === undefined ? {} : { value }

export type Change = Story['steps'][number]['changes'][number]

/** A row before and after. */
export function RowChange({ change: { table, key, before, after } }: { change: Change }) {
  return (
    <section className="change">
      <h3>
        <Link to="/tables" search={{ table, row: JSON.stringify(key) }}>
          {table} / {key.join(' / ')}
        </Link>
      </h3>
      <Compared before={before} after={after} />
    </section>
  )
}

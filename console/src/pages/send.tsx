import './send.css'
import { useMutation, useQuery } from '@tanstack/react-query'
import { getRouteApi } from '@tanstack/react-router'
import { type FormEvent, useEffect, useState } from 'react'
import { get, pathOf, Refused, type Sent, send } from '../api.ts'
import { newRequestId } from '../decide.ts'
import { emptyOf, type Field, fieldsIn, type Schema, textOf, valuesIn } from '../flat-form.ts'
import { useMe } from '../live.ts'
import { Commands, Copy, Empty, Facts, Json, Outcome, RecordLink, RequestLink } from '../parts.tsx'
import { Page, Problem } from '../shell.tsx'

const route = getRouteApi('/send')

/** The part of the OpenAPI document that is read here. */
interface Document {
  readonly paths: Readonly<
    Record<
      string,
      {
        readonly post?: {
          readonly requestBody?: { readonly content: Readonly<Record<string, { schema?: Schema }>> }
        }
      }
    >
  >
}

/** Sends a request: its id is made first and is part of the address, so a reload does not make another. */
export function Send() {
  const { type: asked, id } = route.useSearch()
  const navigate = route.useNavigate()
  const me = useMe()
  const types = me.data?.requests ?? []
  const type = asked ?? types[0]
  const document = useQuery({
    queryKey: ['openapi', me.data?.version],
    queryFn: ({ signal }) => get<Document>('openapi.json', {}, signal),
    staleTime: 60_000,
  })
  const renew = (next: string | undefined) =>
    void navigate({ search: { type: next, id: newRequestId() }, replace: true, resetScroll: false })
  // biome-ignore lint/correctness/useExhaustiveDependencies: only an address without an id gets one
  useEffect(() => {
    if (id === undefined) renew(type)
  }, [id])
  const body = document.data?.paths[`/requests/${type}`]?.post?.requestBody
  return (
    <Page title="Send">
      <div className="filters">
        <label>
          Request
          <select value={type ?? ''} onChange={({ target }) => renew(target.value)}>
            {types.includes(type ?? '') || <option>{type}</option>}
            {types.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
      </div>
      {document.error && <Problem error={document.error} />}
      {document.data && body === undefined && <Empty>The app has no request {type}.</Empty>}
      {type !== undefined && id !== undefined && body !== undefined && (
        <Form
          key={type}
          type={type}
          id={id}
          schema={body.content['application/json']?.schema ?? {}}
          renew={() => renew(type)}
        />
      )}
    </Page>
  )
}

interface FormProps {
  readonly type: string
  readonly id: string
  readonly schema: Schema
  renew(): void
}

function Form({ type, id, schema, renew }: FormProps) {
  const me = useMe()
  const fields = fieldsIn(schema)
  const [asJson, setAsJson] = useState(fields === undefined)
  const [values, setValues] = useState<Readonly<Record<string, string>>>({})
  const [json, setJson] = useState(() => JSON.stringify(emptyOf(schema), null, 2))
  const [result, setResult] = useState<{ readonly id: string; readonly sent: Sent }>()
  const text = asJson || fields === undefined ? json : textOf(fields, values)
  const flaw = flawOf(text)
  const sending = useMutation({
    mutationFn: () => send(type, text, id),
    onSuccess: (sent) => setResult({ id, sent }),
  })
  const shown = result?.id === id ? result.sent : undefined
  const submitted = (event: FormEvent) => {
    event.preventDefault()
    sending.mutate()
  }
  const toggle = () => {
    if (asJson) setValues(valuesIn(fields ?? [], json))
    else setJson(JSON.stringify(JSON.parse(text), null, 2))
    setAsJson(!asJson)
  }
  const another = () => {
    sending.reset()
    renew()
  }
  return (
    <div className="send">
      <form onSubmit={submitted} className="send-form" aria-label="Input">
        {fields !== undefined && !asJson ? (
          fields.map((field) => (
            <FieldInput
              key={field.name}
              field={field}
              value={values[field.name] ?? ''}
              onChange={(value) => setValues({ ...values, [field.name]: value })}
            />
          ))
        ) : (
          <label className="field">
            Input as JSON
            <textarea
              value={json}
              onChange={({ target }) => setJson(target.value)}
              rows={Math.max(4, json.split('\n').length)}
              spellCheck={false}
              aria-invalid={flaw !== undefined}
            />
            {flaw !== undefined && <span className="bad">{flaw}</span>}
          </label>
        )}
        <p className="send-id">
          <span className="quiet">Request id</span> <code>{id}</code>
        </p>
        <div className="tools">
          <button type="submit" className="primary" disabled={flaw !== undefined || sending.isPending}>
            {sending.isPending ? 'Sending…' : shown ? 'Send again' : 'Send'}
          </button>
          <button type="button" className="tool" onClick={another}>
            New id
          </button>
          {fields !== undefined && (
            <button
              type="button"
              className="tool"
              aria-pressed={asJson}
              disabled={flaw !== undefined}
              onClick={toggle}
            >
              JSON
            </button>
          )}
          <Commands
            command={['submit', type, text, '--id', id]}
            path={`requests/${pathOf(type)}`}
            body={flaw === undefined ? JSON.parse(text) : {}}
            requestId={id}
          />
        </div>
      </form>
      <section className="sent" aria-label="Outcome" aria-live="polite">
        {sending.error ? (
          <>
            <Problem error={sending.error} />
            {!(sending.error instanceof Refused) && (
              <p className="quiet">Send it again: under the same id it is decided once.</p>
            )}
          </>
        ) : shown === undefined ? (
          <p className="quiet">
            However often you send it under this id, it is decided once, and you get the same outcome.
          </p>
        ) : (
          <Answer of={shown} id={id} principal={me.data?.principal} />
        )}
        <details>
          <summary>Schema</summary>
          <Json value={schema} label="Schema" />
        </details>
      </section>
    </div>
  )
}

interface AnswerProps {
  readonly of: Sent
  readonly id: string
  readonly principal: string | undefined
}

function Answer({ of: { outcome, token, replayed, body }, id, principal }: AnswerProps) {
  return (
    <>
      <p className="verdict">
        <Outcome value={outcome} />
        {replayed && <span className="flag">decided before</span>}
      </p>
      <Facts
        of={[
          ['Record', <RecordLink key="t" token={token} />],
          [
            'Request',
            <RequestLink key="r" id={id} principal={principal || undefined}>
              everything that followed
            </RequestLink>,
          ],
        ]}
      />
      <Json value={body} label="Answer" />
      <div className="tools">
        <Copy text={id}>Copy id</Copy>
      </div>
    </>
  )
}

interface FieldInputProps {
  readonly field: Field
  readonly value: string
  onChange(value: string): void
}

function FieldInput({ field, value, onChange }: FieldInputProps) {
  const { name, kind, isRequired, options, minLength, maxLength, description } = field
  const shared = {
    id: `field-${name}`,
    value,
    required: isRequired && kind !== 'string',
    onChange: ({ target }: { target: { value: string } }) => onChange(target.value),
  }
  return (
    <div className="field">
      <label htmlFor={`field-${name}`}>
        {name}
        {!isRequired && <span className="quiet"> · may be left out</span>}
      </label>
      {options !== undefined ? (
        <select {...shared}>
          <option value="" />
          {options.map((option) => (
            <option key={option}>{option}</option>
          ))}
        </select>
      ) : kind === 'string' ? (
        <input
          {...shared}
          minLength={minLength}
          maxLength={maxLength}
          autoComplete="off"
          required={isRequired && (minLength ?? 0) > 0}
        />
      ) : (
        <input
          {...shared}
          inputMode={kind === 'integer' ? 'numeric' : 'decimal'}
          pattern={kind === 'integer' ? '-?[0-9]+' : '-?[0-9]+([.][0-9]+)?([eE][+\\-]?[0-9]+)?'}
          title={kind === 'integer' ? 'A whole number' : 'A number'}
          autoComplete="off"
        />
      )}
      {description !== undefined && <span className="quiet">{description}</span>}
    </div>
  )
}

function flawOf(text: string): string | undefined {
  try {
    JSON.parse(text)
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

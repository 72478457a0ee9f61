import './audit.css'
import { useQuery } from '@tanstack/react-query'
import { getRouteApi } from '@tanstack/react-router'
import { type DragEvent, type FormEvent, useState } from 'react'
import { type FullRecord, get, pathOf, Refused } from '../api.ts'
import { ago, count, fullTime } from '../format.ts'
import { useStatus } from '../live.ts'
import { Commands, Copy, Facts, RecordLink, Vital } from '../parts.tsx'
import { checkReceipt, type Head } from '../receipt.ts'
import { Page, Problem } from '../shell.tsx'

const route = getRouteApi('/audit')

/** The newest signed head, and receipts that are checked in the browser alone. */
export function Audit() {
  const head = useQuery({
    queryKey: ['head'],
    queryFn: ({ signal }) => get<Head>('audit/head', {}, signal),
    refetchInterval: 2_000,
    retry: false,
  })
  return (
    <Page title="Audit" tools={<Commands command={['head', 'get']} path="audit/head" />}>
      {isOff(head.error) ? <Off /> : head.error && <Problem error={head.error} />}
      {head.data && <NewestHead head={head.data} />}
      <Receipts />
    </Page>
  )
}

const isOff = (error: Error | null) => error instanceof Refused && error.problem.code === 'audit-off'

/** A server without an audit is a choice, and no fault. */
function Off() {
  return (
    <p className="prose">
      This server signs no heads: its audit is off. Start it with <code>hence start --audit</code>, and a
      receipt can prove to anybody that a request is in the log. Receipts of another server can be checked
      here.
    </p>
  )
}

function NewestHead({ head }: { head: Head }) {
  const { data: status } = useStatus()
  const now = status?.now ?? Date.now()
  const { logId, time, partitions } = head
  const records = partitions.reduce((sum, { size }) => sum + size, 0)
  return (
    <>
      <dl className="vitals">
        <Vital name="Head signed" value={ago(now - time)} more={fullTime(time)} />
        <Vital
          name="It covers"
          value={count(records)}
          more={`records of log ${logId.slice(0, 8)}`}
          title={logId}
        />
        <Vital
          name="Log verified"
          value={status?.scrubbedAt === undefined ? 'not yet' : ago(now - status.scrubbedAt)}
          more={status?.scrubbedAt === undefined ? 'since the start' : fullTime(status.scrubbedAt)}
        />
        <Vital
          name="Derived again"
          value={status?.rehearsedAt === undefined ? 'not yet' : ago(now - status.rehearsedAt)}
          more={status?.rehearsedAt === undefined ? 'once a day' : 'no difference'}
          title={status?.rehearsedAt === undefined ? undefined : fullTime(status.rehearsedAt)}
        />
      </dl>
      <section aria-labelledby="head">
        <div className="section-head">
          <h2 id="head">Newest head</h2>
          <Copy text={JSON.stringify(head)}>Copy head</Copy>
        </div>
        <p className="prose">
          Keep a head where the owner of this log cannot change it. With it, anybody can find out later
          whether the log has only grown.
        </p>
        <table className="data heads">
          <thead>
            <tr>
              <th scope="col" className="number">
                Partition
              </th>
              <th scope="col" className="number">
                Records
              </th>
              <th scope="col" className="wide">
                Root
              </th>
            </tr>
          </thead>
          <tbody>
            {partitions.map(({ size, root }, partition) => (
              // A partition is its number.
              // biome-ignore lint/suspicious/noArrayIndexKey: see above
              <tr key={partition}>
                <td className="number">{partition}</td>
                <td className="number">{count(size)}</td>
                <td className="wide mono hash">{root}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
    </>
  )
}

const keyName = 'hence.public-key'

/** Receipts are dropped here, or fetched for a request; they are checked without the server. */
function Receipts() {
  const { id, principal } = route.useSearch()
  const [dropped, setDropped] = useState<string>()
  const [pem, setPem] = useState(() => sessionStorage.getItem(keyName) ?? '')
  const fetched = useQuery({
    queryKey: ['receipt', id, principal],
    queryFn: ({ signal }) => get<object>(`requests/${pathOf(id!)}/receipt`, { principal }, signal),
    enabled: id !== undefined,
    retry: false,
    staleTime: Number.POSITIVE_INFINITY,
  })
  const receipt = dropped ?? (fetched.data && JSON.stringify(fetched.data))
  const setKey = (text: string) => {
    setPem(text)
    sessionStorage.setItem(keyName, text)
  }
  const take = async (files: Iterable<File>) => {
    for (const file of files) {
      const text = await file.text()
      if (text.includes('-----BEGIN')) setKey(text.trim())
      else setDropped(text)
    }
  }
  const drop = (event: DragEvent) => {
    event.preventDefault()
    void take(event.dataTransfer.files)
  }
  return (
    <section aria-labelledby="receipt">
      <h2 id="receipt">Check a receipt</h2>
      <Ask onAsk={() => setDropped(undefined)} />
      {/* biome-ignore lint/a11y/noStaticElementInteractions: the button in it takes files as well */}
      <div className="drop-zone receipt-zone" onDrop={drop} onDragOver={(event) => event.preventDefault()}>
        <p>Drop a receipt here, or the public key of the log. They are checked in this browser alone.</p>
        <label className="tool choose">
          Choose files
          <input
            type="file"
            multiple
            className="sr"
            onChange={({ target }) => void take(target.files ?? [])}
          />
        </label>
        <label className="field">
          Public key
          <textarea
            value={pem}
            onChange={({ target }) => setKey(target.value)}
            rows={3}
            spellCheck={false}
            placeholder="-----BEGIN PUBLIC KEY-----, from public-key.pem in the folder audit, or from somebody you trust"
          />
        </label>
      </div>
      {dropped === undefined && fetched.error && <Problem error={fetched.error} />}
      {receipt !== undefined && <Verdict key={`${receipt}${pem}`} receipt={receipt} pem={pem.trim()} />}
    </section>
  )
}

function Ask({ onAsk }: { onAsk(): void }) {
  const { id, principal } = route.useSearch()
  const navigate = route.useNavigate()
  const ask = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault()
    const form = new FormData(event.currentTarget)
    const text = (name: string) => String(form.get(name) ?? '').trim() || undefined
    onAsk()
    void navigate({ search: { id: text('id'), principal: text('principal') }, resetScroll: false })
  }
  return (
    <form className="ask" onSubmit={ask} key={`${id} ${principal}`}>
      <label>
        Of a request
        <input name="id" defaultValue={id} placeholder="its id" required autoComplete="off" />
      </label>
      <label>
        Sent by
        <input name="principal" defaultValue={principal} placeholder="you" autoComplete="off" />
      </label>
      <button type="submit" className="tool">
        Get its receipt
      </button>
      {id !== undefined && (
        <Commands
          command={['receipt', 'get', id, ...(principal === undefined ? [] : ['--principal', principal])]}
          path={`requests/${pathOf(id)}/receipt`}
          query={{ principal }}
        />
      )}
    </form>
  )
}

function Verdict({ receipt, pem }: { receipt: string; pem: string }) {
  const { data: proven, error } = useQuery({
    queryKey: ['check', receipt, pem],
    queryFn: () => checkReceipt(receipt, pem === '' ? undefined : pem),
    networkMode: 'always',
    staleTime: Number.POSITIVE_INFINITY,
    gcTime: 0,
    retry: false,
  })
  if (error) {
    return (
      <div className="problem" role="alert">
        <strong>It proves nothing</strong>
        <p>The receipt proves nothing: {error.message}.</p>
      </div>
    )
  }
  if (proven === undefined) return <p className="quiet">Checking…</p>
  const { isSigned, token, headTime, logId, bytes } = proven
  return (
    <div className={isSigned ? 'verified' : 'verified half'} role="status">
      <strong>{isSigned ? '✓ Proven' : 'Not proven yet'}</strong>
      <p>
        {isSigned
          ? `This record was in the log by ${fullTime(headTime)}: the key has signed it.`
          : 'The record leads to the root in its head. Give the public key: without it anybody can have made both.'}
      </p>
      <Facts
        of={[
          ['Record', <RecordLink key="r" token={token} />],
          ['Bytes', count(bytes)],
          ['Log', <code key="l">{logId}</code>],
          ['Head signed', fullTime(headTime)],
          ['This server', <Held key="h" token={token} receipt={receipt} />],
        ]}
      />
      <div className="tools">
        <Copy text={receipt}>Copy receipt</Copy>
      </div>
    </div>
  )
}

/** Whether this server still has the bytes of the receipt there. */
function Held({ token, receipt }: { token: string; receipt: string }) {
  const { data, error } = useQuery({
    queryKey: ['record', token],
    queryFn: ({ signal }) => get<FullRecord>(`log/${token}`, {}, signal),
    retry: false,
  })
  if (error) return <span className="quiet">cannot be reached; the proof does not need it</span>
  if (data === undefined) return null
  const { record } = JSON.parse(receipt) as { record: string }
  return data.bytes === record ? (
    <span className="outcome accepted">has the same bytes there</span>
  ) : (
    <span className="outcome failed">has other bytes there</span>
  )
}

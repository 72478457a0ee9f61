import { CSPProvider } from '@base-ui/react/csp-provider'
import { Popover } from '@base-ui/react/popover'
import { addressOf, key } from './api.ts'
import { shellQuoted } from './format.ts'
import { Copy, type Equivalent } from './parts.tsx'

/** The pop-up with the equivalent command line and curl; it opens when it is loaded. */
export default function CommandPopover({ command, path, query, body, requestId }: Equivalent) {
  const { origin } = addressOf('')
  const base = addressOf('').href.replace(/\/$/, '')
  const needsKey = key.get() !== undefined
  // A command that reads a directory needs neither an address nor a key.
  const isOffline = command.includes('--data')
  const cli = [
    ...(needsKey && !isOffline ? ['HENCE_KEY=…'] : []),
    'hence',
    ...command.map(shellQuoted),
    ...(isOffline ? [] : ['--url', shellQuoted(base)]),
  ].join(' ')
  const curl = [
    'curl',
    ...(needsKey ? ['-H "authorization: Bearer $HENCE_KEY"'] : []),
    ...(body === undefined
      ? []
      : [
          `-H 'content-type: application/json' -H "idempotency-key: ${requestId ?? '$(uuidgen)'}"`,
          `-d ${shellQuoted(JSON.stringify(body))}`,
        ]),
    shellQuoted(addressOf(path, query).href),
  ].join(' ')
  return (
    <CSPProvider disableStyleElements>
      <Popover.Root defaultOpen>
        <Popover.Trigger className="tool">CLI · curl</Popover.Trigger>
        <Popover.Portal>
          <Popover.Positioner sideOffset={6} align="end" className="positioner">
            <Popover.Popup className="popup" aria-label={`The same at ${origin}`}>
              <Popover.Title className="popup-title">Command line</Popover.Title>
              <pre className="command">{cli}</pre>
              <Copy text={cli}>Copy command</Copy>
              <p className="popup-title">curl</p>
              <pre className="command">{curl}</pre>
              <Copy text={curl}>Copy curl</Copy>
            </Popover.Popup>
          </Popover.Positioner>
        </Popover.Portal>
      </Popover.Root>
    </CSPProvider>
  )
}

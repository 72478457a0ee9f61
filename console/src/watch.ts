import { addressOf, key, type Problem, Refused } from './api.ts'

/**
 * Calls back for every change of a table until the signal aborts. The stream is read by `fetch`, since
 * `EventSource` cannot send a key.
 * @throws Refused if the server ends the stream with a problem
 */
export async function watch(table: string, changed: () => void, signal: AbortSignal): Promise<void> {
  const secret = key.get()
  const response = await fetch(addressOf('changes', { table }), {
    signal,
    headers: secret ? { authorization: `Bearer ${secret}` } : {},
  })
  if (!response.ok || response.body === null) throw new Refused((await response.json()) as Problem)
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (;;) {
    const { value, done } = await reader.read()
    if (done) throw new Error('The stream has ended.')
    const events = `${rest}${value}`.split('\n\n')
    rest = events.pop() ?? ''
    for (const event of events) {
      if (/^event: changes$/m.test(event)) changed()
      const problem = /^event: problem\ndata: (.*)$/m.exec(event)?.[1]
      if (problem !== undefined) throw new Refused(JSON.parse(problem) as Problem)
    }
  }
}

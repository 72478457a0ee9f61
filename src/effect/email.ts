import { HenceError } from '../failure.ts'
import { requirePackage } from '../optional-package.ts'
import type { Call, Handler } from './handlers.ts'

/** An e-mail: what the input of an effect is, or what `message` makes of it. */
export interface Letter {
  readonly to: string | readonly string[]
  readonly cc?: string | readonly string[] | undefined
  readonly bcc?: string | readonly string[] | undefined
  readonly replyTo?: string | undefined
  readonly subject?: string | undefined
  readonly text?: string | undefined
  readonly html?: string | undefined
}

/** What a mail server said when it took an e-mail. */
export interface Posted {
  readonly messageId: string
  readonly response: string
}

/** What of a transporter of nodemailer is used. */
export interface MailTransport {
  // biome-ignore lint/suspicious/noExplicitAny: nodemailer's own types would bind those who do not have it.
  sendMail(message: any): Promise<any>
}

export type EmailOptions = {
  readonly from: string
  /** What stands behind the `@` of a Message-ID. Default: the domain of `from`. */
  readonly domain?: string
} & (
  | {
      /** The mail server: `smtps://user:password@mail.example.org`. Every e-mail has a connection of its own. */
      readonly url: string
    }
  | {
      /** What `createTransport` of nodemailer gives. */
      readonly transport: MailTransport
    }
)

/** A server that is silent for so long has gone; less than what a try may take, so that it does not send behind its back. */
const silentMsMax = 20_000
const connectMsMax = 10_000

/**
 * A handler that sends an e-mail by SMTP, with the npm package `nodemailer`, which you install. Its Message-ID is that of
 * the effect, and for one effect every byte is always the same, so that mailboxes and people can tell a copy. SMTP has no
 * way to ask whether a message has arrived, so a copy may arise when the connection breaks, or this process dies, between
 * the server's taking it and the record of that.
 *
 * A refusal for good (5xx) is given up at once with `effect-refused`; so is an e-mail that was taken for some of its
 * recipients only. Anything else is tried again. Files and addresses are not read into messages.
 *
 * @param options.message makes the e-mail; without it the effect's input is one
 * @throws HenceError `package-missing`, `option-invalid` (change)
 */
export function email(options: EmailOptions & { readonly message?: undefined }): Handler<Letter, Posted>
export function email<Input>(
  options: EmailOptions & { readonly message: (call: Call<Input>) => Letter },
): Handler<Input, Posted>
export function email<Input>(
  options: EmailOptions & { readonly message?: ((call: Call<Input>) => Letter) | undefined },
): Handler<Input, Posted> {
  const { from, message = (call) => call.input as unknown as Letter } = options
  const domain = options.domain ?? /@([^@\s<>]+)>?\s*$/.exec(from)?.[1]
  if (domain === undefined || !/^[\w.-]+$/.test(domain)) {
    throw new HenceError(
      'option-invalid',
      'change',
      `\`from\` is ${JSON.stringify(from)}, which has no domain for Message-IDs: give an address, or \`domain\`.`,
    )
  }
  let transport: MailTransport | undefined
  if ('transport' in options) transport = options.transport
  // Told when the handler is made, where somebody reads it, and not by the first e-mail that is not sent.
  else requirePackage('nodemailer', 'E-mails need')
  return async (call) => {
    if (transport === undefined) {
      const { createTransport } = await import('nodemailer')
      transport ??= createTransport({
        url: (options as { url: string }).url,
        connectionTimeout: connectMsMax,
        greetingTimeout: connectMsMax,
        socketTimeout: silentMsMax,
      })
    }
    const { id, at } = call
    const { to, cc, bcc, replyTo, subject, text, html } = message(call)
    const messageId = `<${id}@${domain}>`
    try {
      const sent = await transport.sendMail({
        ...{ from, to, cc, bcc, replyTo, subject, text, html, messageId },
        // Left to themselves these two differ from try to try.
        date: new Date(at),
        baseBoundary: id,
        disableFileAccess: true,
        disableUrlAccess: true,
      })
      if (sent.rejected?.length > 0) throw takenForSome(sent)
      return { messageId, response: String(sent.response ?? '') }
    } catch (error) {
      throw isRefusal(error)
        ? new HenceError('effect-refused', 'change', (error as Error).message, { cause: error })
        : error
    }
  }
}

/** Whether it was this e-mail that the server did not take; a wrong password, say, is no fault of the message. */
function isRefusal(error: unknown): boolean {
  const { code, responseCode } = error as { code?: unknown; responseCode?: unknown }
  if (code !== 'EENVELOPE' && code !== 'EMESSAGE') return false
  // Without a response it was refused before it was sent: it has no recipient, say.
  return responseCode === undefined || (typeof responseCode === 'number' && responseCode >= 500)
}

function takenForSome({ accepted, rejected }: { accepted: unknown[]; rejected: unknown[] }): HenceError {
  return new HenceError(
    'effect-refused',
    'change',
    `it was taken for ${accepted.join(', ')}, and refused for ${rejected.join(', ')}; sending it again sends copies to the former. ` +
      'One effect for each recipient keeps them apart.',
  )
}

import { changeError } from '../failure.ts'
import { requirePackage } from '../optional-package.ts'
import type { Call, Handler } from './handlers.ts'

/** An e-mail: the input of an effect, or the return value of `message`. */
export interface Letter {
  readonly to: string | readonly string[]
  readonly cc?: string | readonly string[] | undefined
  readonly bcc?: string | readonly string[] | undefined
  readonly replyTo?: string | undefined
  readonly subject?: string | undefined
  readonly text?: string | undefined
  readonly html?: string | undefined
}

/** The mail server's answer to an e-mail that it accepted. */
export interface Posted {
  readonly messageId: string
  readonly response: string
}

/** The part of a nodemailer transporter that is used here. */
export interface MailTransport {
  // biome-ignore lint/suspicious/noExplicitAny: nodemailer's own types would bind users who do not have them.
  sendMail(message: any): Promise<any>
}

export type EmailOptions = {
  readonly from: string
  /** The domain of the Message-ID, after the `@`. Default: the domain of `from`. */
  readonly domain?: string
} & (
  | {
      /** The mail server: `smtps://user:password@mail.example.org`. Each e-mail opens a connection. */
      readonly url: string
    }
  | {
      /** The return value of nodemailer's `createTransport`. */
      readonly transport: MailTransport
    }
)

/** A server silent for this long is gone. Shorter than a try's limit: no e-mail is sent after its try. */
const silentMsMax = 20_000
const connectMsMax = 10_000

/**
 * A handler that sends an e-mail by SMTP with the npm package `nodemailer`, which you install. The Message-ID
 * is made of the effect's id, and every byte of the e-mail is the same at each try, so mailboxes and people
 * recognise a copy. SMTP cannot say whether a message has arrived. A copy can therefore be sent when the
 * connection breaks, or this process dies, after the server accepted the message and before that is recorded.
 *
 * A permanent refusal (5xx) is given up at once with `effect-refused`, and so is an e-mail that the server
 * accepted for some of its recipients only. Anything else is tried again. Files and addresses are not read
 * into messages.
 *
 * @param options.message makes the e-mail; without it the effect's input is the e-mail
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
    throw changeError(
      'option-invalid',
      `\`from\` is ${JSON.stringify(from)}, which has no domain for Message-IDs: give an address, or \`domain\`.`,
    )
  }
  let transport: MailTransport | undefined
  if ('transport' in options) transport = options.transport
  // Checked when the handler is made, where a developer sees the error, not when the first e-mail fails.
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
        // By default these two differ from try to try.
        date: new Date(at),
        baseBoundary: id,
        disableFileAccess: true,
        disableUrlAccess: true,
      })
      if (sent.rejected?.length > 0) throw takenForSome(sent)
      return { messageId, response: String(sent.response ?? '') }
    } catch (error) {
      throw isRefusal(error)
        ? changeError('effect-refused', (error as Error).message, { cause: error })
        : error
    }
  }
}

/** Whether the server refused this e-mail. A wrong password, for example, is not the message's fault. */
function isRefusal(error: unknown): boolean {
  const { code, responseCode } = error as { code?: unknown; responseCode?: unknown }
  if (code !== 'EENVELOPE' && code !== 'EMESSAGE') return false
  // Without a response it was refused before it was sent, for example because it has no recipient.
  return responseCode === undefined || (typeof responseCode === 'number' && responseCode >= 500)
}

const takenForSome = ({ accepted, rejected }: { accepted: unknown[]; rejected: unknown[] }) =>
  changeError(
    'effect-refused',
    `it was taken for ${accepted.join(', ')}, and refused for ${rejected.join(', ')}; sending it again ` +
      'sends copies to the former. One effect for each recipient keeps them apart.',
  )

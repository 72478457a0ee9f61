/** Handlers for common effects: `hence/effects`. */

export { type EmailOptions, email, type Letter, type MailTransport, type Posted } from './email.ts'
export { type WebhookOptions, webhook } from './webhook.ts'

import type { DiffSummary } from '../../diff/diff-summary.ts'
import { diffMarkdown, type Versions } from './diff-markdown.ts'
import { diffText } from './diff-text.ts'

/** The forms that a summary of a diff is told in; all differences, a line of JSON each, are another thing. */
export const diffForms = ['text', 'markdown', 'json'] as const
export type DiffForm = (typeof diffForms)[number]

/** A summary in one of its forms, without a line break at its end. */
export function formed(form: DiffForm, summary: DiffSummary, versions: Versions): string {
  switch (form) {
    case 'text':
      return diffText(summary).join('\n')
    case 'markdown':
      return diffMarkdown(summary, versions).trimEnd()
    case 'json':
      return JSON.stringify(summary)
  }
}

/** Money in whole thousandths of a pound, read and written digit by digit, never through floating point. */

/** `'2.55'` → 2550; undefined if the text is not an amount, or has more than three decimals. */
export function parseMoney(text: string): number | undefined {
  const [, minus, pounds, decimals = ''] = /^(-?)(\d{1,10})(?:\.(\d{1,3})0*)?$/.exec(text) ?? []
  if (pounds === undefined) return undefined
  const amount = Number(pounds) * 1000 + Number(decimals.padEnd(3, '0'))
  return minus && amount !== 0 ? -amount : amount
}

/** 4397950761 → `'4397950.761'`. */
export function formatMoney(amount: number): string {
  const digits = String(Math.abs(amount)).padStart(4, '0')
  return `${amount < 0 ? '-' : ''}${digits.slice(0, -3)}.${digits.slice(-3)}`
}

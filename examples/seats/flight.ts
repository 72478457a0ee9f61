/** The one flight that the site sells, as the request `open-flight` has it. */
export const flight = { flight: 'HE101', rows: 16, letters: 'ABCDEF' }

/** The one flight that the site sells: the input of the request `open-flight`. */
export const flight = { flight: 'HE101', rows: 16, letters: 'ABCDEF' }

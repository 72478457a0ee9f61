/** A UUID of version 7 that was made at a time. */
export function uuid7(time: number, random: () => number = Math.random): string {
  const hex = time.toString(16).padStart(12, '0')
  const digits = Array.from({ length: 15 }, () => Math.floor(random() * 16).toString(16)).join('')
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7${digits.slice(0, 3)}-8${digits.slice(3, 6)}-${digits.slice(6)}000`
}

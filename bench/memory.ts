import { readFileSync } from 'node:fs'

/** Resident memory of this process that no file backs, in bytes; undefined on systems other than Linux. */
export function anonymousBytes(): number | undefined {
  if (process.platform !== 'linux') return undefined
  const kibibytes = /^RssAnon:\s*(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
  return kibibytes === undefined ? undefined : Number(kibibytes) * 1024
}

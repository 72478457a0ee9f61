#!/usr/bin/env node
// Checks the version before importing anything else: an older Node fails on the first file with a newer
// feature, and its error does not say why.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < 22 || (major === 22 && minor < 18)) {
  console.error(`hence requires Node 22.18 or newer; this is ${process.versions.node}.`)
  process.exitCode = 1
} else {
  const { run } = await import('./program.ts')
  await run(process.argv)
}

export {}

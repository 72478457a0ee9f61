#!/usr/bin/env node
// Nothing else is imported before this look: an older Node fails on the first file that needs a newer one, and
// what it says then helps nobody.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < 22 || (major === 22 && minor < 18)) {
  console.error(`hence needs Node 22.18 or newer; this is ${process.versions.node}.`)
  process.exitCode = 1
} else {
  const { run } = await import('./program.ts')
  await run(process.argv)
}

export {}

#!/usr/bin/env node
// `npm create hence shop -- --template bookings` is `hence init shop --template bookings`.
process.argv.splice(2, 0, 'init')
await import(new URL('./cli/main.js', import.meta.resolve('hence')).href)

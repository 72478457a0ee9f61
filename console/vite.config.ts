import { defineConfig } from 'vite'

export default defineConfig({
  root: import.meta.dirname,
  // Addresses are relative, so that the console works below any path.
  base: './',
  build: {
    outDir: '../dist/console',
    emptyOutDir: true,
    target: 'es2022',
    // Nothing becomes a `data:` address, which the policy forbids.
    assetsInlineLimit: 0,
    // The polyfill would be an inline script.
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rolldownOptions: {
      // Packages mark what runs in the browser; here everything does.
      onLog: (level, log, handle) => log.code !== 'MODULE_LEVEL_DIRECTIVE' && handle(level, log),
    },
  },
  logLevel: 'warn',
})

/**
 * The rooms of `src`, one for each scale, and the rooms that each may import. ARCHITECTURE.md has
 * them in an order in which each imports only rooms above it.
 */
export const mayImport: Readonly<Record<string, readonly string[]>> = {
  shared: [],
  app: ['shared'],
  client: ['shared', 'app', 'storage'],
  // The code of an app, sandboxed.
  sandbox: ['shared', 'app'],
  log: ['shared'],
  state: ['shared', 'app'],
  constraint: ['shared', 'app', 'state'],
  effect: ['shared', 'app', 'state'],
  storage: ['shared', 'log', 'state'],
  // One record.
  derivation: ['shared', 'app', 'log', 'state', 'constraint', 'effect', 'sandbox'],
  request: ['shared', 'app', 'log', 'derivation', 'sandbox', 'state'],
  // All records in order.
  processor: ['shared', 'app', 'log', 'state', 'constraint', 'effect', 'sandbox', 'derivation'],
  query: ['shared', 'app', 'log', 'state', 'constraint', 'effect', 'sandbox', 'derivation', 'processor'],
  diff: ['shared', 'app', 'state', 'constraint', 'effect', 'derivation'],
  // One whole derivation.
  generation: [...below('derivation'), 'derivation', 'processor', 'query', 'storage'],
  // It reads the data of the rooms above, and none of them imports it.
  audit: ['shared', 'app', 'log', 'state', 'effect', 'derivation', 'processor', 'generation'],
  // Two whole derivations.
  reprocess: [...below('derivation'), 'derivation', 'processor', 'query', 'diff', 'generation', 'storage'],
  // Read models beside a derivation.
  view: [...below('derivation'), 'derivation', 'processor', 'diff', 'generation', 'reprocess', 'storage'],
  // It wires the rooms together.
  engine: [
    ...below('derivation'),
    ...['derivation', 'request', 'processor', 'query', 'diff', 'generation', 'storage', 'audit', 'reprocess'],
    ...['view', 'client'],
  ],
  // A directory at rest.
  offline: [
    ...below('derivation'),
    ...['derivation', 'processor', 'query', 'diff', 'generation', 'storage', 'audit', 'reprocess', 'engine'],
    'view',
  ],
  // It runs the app's read rules.
  server: [
    ...['shared', 'app', 'sandbox', 'state', 'constraint', 'effect', 'derivation', 'audit', 'request'],
    ...['query', 'diff', 'reprocess', 'engine', 'view'],
  ],
  // Messages of other systems become requests.
  source: ['shared', 'app', 'engine'],
  kafka: ['shared', 'app', 'log', 'engine', 'source'],
  // It runs the whole pipeline, from the outboxes of clients to the disk.
  testing: [
    ...below('derivation'),
    ...['derivation', 'request', 'storage', 'processor', 'engine', 'client', 'server', 'view'],
  ],
  postgres: ['shared', 'app', 'log', 'state', 'effect', 'query', 'engine', 'source'],
  cli: [
    ...['shared', 'app', 'client', 'sandbox', 'state', 'log', 'constraint', 'effect', 'storage', 'audit'],
    ...['diff', 'query', 'reprocess', 'engine', 'offline', 'server', 'kafka', 'postgres', 'view'],
  ],
}

/**
 * Folders that a room must not import, though it may import their room. The command line works on files by
 * `offline`.
 */
export const mayNotImport: Readonly<Record<string, readonly string[]>> = { cli: ['log/file-log/'] }

/** The rooms that a room below `derivation` or `derivation` itself may know. */
function below(_: 'derivation'): readonly string[] {
  return ['shared', 'app', 'log', 'state', 'constraint', 'effect', 'sandbox']
}
